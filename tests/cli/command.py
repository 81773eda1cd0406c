# SPDX-License-Identifier: Apache-2.0
"""Running the installed ``ringfence`` command from a test."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import facts
from programs import RINGFENCE

Completed = subprocess.CompletedProcess[str]


def leftovers(pid: int) -> list[str]:
    """Cgroup directories of the supervisor that had this process id."""
    base = facts.cgroup_base()
    return [] if base is None else [path.name for path in base.glob(f"ringfence-{pid}-*")]


def start(*args: object, **options: Any) -> subprocess.Popen[Any]:
    """``ringfence ARGS`` in the background."""
    return subprocess.Popen([RINGFENCE, *map(str, args)], **options)


def ringfence(*args: object, **options: Any) -> Completed:
    """``ringfence ARGS`` to its end; nothing of it is left."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **options}
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    with start(*args, **options) as process:
        try:
            out, err = process.communicate(given, timeout=50)
        except BaseException:
            process.kill()
            raise
    assert not leftovers(process.pid)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*args: object, **options: Any) -> Completed:
    """``ringfence run ARGS``."""
    return ringfence("run", *args, **options)


def run_json(*args: object, **options: Any) -> Any:
    """The outcome that ``ringfence run --json ARGS`` prints."""
    done = run("--json", *args, **options)
    return json.loads(done.stdout)
