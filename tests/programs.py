# SPDX-License-Identifier: Apache-2.0
"""Programs that tests run as jobs."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import facts

PROBES = Path(__file__).parent / "probes"
RINGFENCE = str(Path(sys.executable).with_name("ringfence")) if Path(sys.executable).with_name("ringfence").exists() else "ringfence"
PYTHON = (sys.executable, "-I", "-S")


def python(code: str, *args: object) -> list[str]:
    """The command that runs ``code`` with a bare interpreter."""
    return [*PYTHON, "-c", code, *map(str, args)]


def answering(number: int, action: str) -> str:
    """Code that says ready on the descriptor of its first argument, and does ``action`` at each such signal, whenever that comes.

    A Python handler and pause() would not do: a signal between the last bytecode before it and pause() itself wakes nobody.
    """
    return (
        f"import os, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [{number}])\nos.write(int(sys.argv[1]), b'ready\\n')\n"
        f"while signal.sigwait([{number}]): {action}"
    )


def probe(name: str, *args: object) -> list[str]:
    """The command that runs tests/probes/NAME.py."""
    return [*PYTHON, str(PROBES / f"{name}.py"), *map(str, args)]


def sh(script: str, *args: object) -> list[str]:
    """The command that runs a shell script."""
    return ["/bin/sh", "-c", script, "sh", *map(str, args)]


def as_nobody() -> dict[str, Any]:
    """Arguments of ``supervisor.run`` that make a job an ordinary user's, when we are root."""
    return {"user": facts.NOBODY, "group": facts.NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}


def as_ordinary_user(code: str, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code that uses the product in a process without any privilege."""
    who: dict[str, Any] = {"user": facts.NOBODY, "group": facts.NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    command = [facts.ordinary_python(), "-W", "error", "-c", code, *map(str, args)]
    env = facts.ordinary_environment()
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=50, env=env, **who, **options)


PR_CAPBSET_DROP, CAP_KILL = 24, 5


def without_cap_kill() -> None:
    """In a child about to exec: what it becomes may signal its own user only."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) != 0:
        os._exit(99)
