# SPDX-License-Identifier: Apache-2.0
"""Strict sandboxes inside of somebody else's namespaces, without any privilege outside of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import facts
import pytest

pytestmark = [pytest.mark.requires("ordinary", "mount"), pytest.mark.usefixtures("no_cgroup")]

CODE = """
import json, os, sys, supervisor
script = '''
id -u; ls -d /proc/[0-9]* | wc -l; grep -c : /proc/net/dev; echo x > /usr/x || echo refused; ls -A /tmp; ls -A /dev/pts
echo 1 > /project/new; mkdir /project/closed; echo 2 > /project/closed/in; chmod 0 /project/closed
'''
overlay = supervisor.Overlay(source=sys.argv[1], target="/project", changes="list")
sandbox = supervisor.Sandbox(level="strict", overlay=[overlay])
outcome = supervisor.run(["/bin/sh", "-c", script], sandbox=sandbox, capture_output=True, text=True, limits={"wall_time_max": 30, "disk_max": "1M"})
print(json.dumps(outcome.to_dict(streams=True)))
"""
CONTAINERS = {
    "none": [],
    "a user namespace in which it is root": ["unshare", "--user", "--map-root-user"],
    "namespaces of its own": ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"],
    "bubblewrap": ["bwrap", "--unshare-all", "--die-with-parent", "--dev-bind", "/", "/", "--proc", "/proc"],
}


def run_in(container: list[str], work: Path) -> dict[str, Any]:
    """The outcome of a strict job of an ordinary user in a container, as JSON."""
    who: dict[str, Any] = {"user": facts.NOBODY, "group": facts.NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    env = facts.ordinary_environment()
    command = [*container, facts.ordinary_python(), "-W", "error", "-c", CODE, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=50, env=env, **who)
    if done.returncode and done.stderr.startswith(("unshare: unshare failed", "bwrap: ")):
        pytest.skip(f"this host gives an ordinary user no such container: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture
def work() -> Any:
    """An empty folder that every user can reach."""
    folder = Path("/var/tmp") / f"ringfence-test-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.requires("bwrap") if kind == "bubblewrap" else ()) for kind in CONTAINERS]
)
def test_a_strict_job_is_as_confined_in_a_container(kind: str, work: Path) -> None:
    """Ids, processes, network, files and terminals are its own; what it did to an overlay is told although it shut a directory."""
    outcome = run_in(CONTAINERS[kind], work)
    assert outcome["verdict"] == "ok", outcome
    user, processes, networks, refused, terminals = outcome["stdout"].split()
    assert (user, networks, refused, terminals) == ("1000", "1", "refused", "ptmx") and int(processes) <= 5
    assert [change["path"] for change in outcome["changes"]] == ["/project/closed", "/project/closed/in", "/project/new"]
    assert outcome["enforcement"]["tree"] == "pid namespace of the init helper" and not list(work.iterdir())


@pytest.mark.requires("bwrap")
def test_a_container_that_covers_parts_of_proc_is_said_to(work: Path) -> None:
    """As Docker does by default: then the kernel gives nobody a fresh /proc, and there is no sandbox with less."""
    outcome = run_in([*CONTAINERS["bubblewrap"], "--ro-bind", "/dev/null", "/proc/version"], work)
    assert (outcome["verdict"], outcome["error"]["stage"]) == ("sandbox_error", "proc"), outcome
    assert "systempaths=unconfined" in outcome["error"]["message"]
