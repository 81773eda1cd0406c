# SPDX-License-Identifier: Apache-2.0
"""An ordinary user under ``systemd --user``: a delegated scope of our own, with real controllers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import eventually

import supervisor

pytestmark = [pytest.mark.requires("vm", "user")]
RINGFENCE = Path(sys.executable).with_name("ringfence")


def command() -> Path:
    return RINGFENCE if RINGFENCE.exists() else Path("/job/bin/ringfence")


def ringfence(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command(), *arguments], capture_output=True, text=True, check=False, timeout=50)


def test_a_user_holds_a_job_to_its_memory_without_root() -> None:
    grow = "b = []\nfor n in range(200): b.append(bytearray(1 << 20))"
    outcome = supervisor.run([sys.executable, "-c", grow], limits={"memory_max": "48M"})
    assert outcome.verdict == "memory_limit"
    assert outcome.enforcement["memory_max"] == "cgroup memory.max"


def test_each_command_makes_a_scope_of_its_own_that_is_gone_afterwards() -> None:
    command = ["systemd-run", "--user", "--scope", "-q", "--", str(RINGFENCE if RINGFENCE.exists() else "/job/bin/ringfence")]
    done = subprocess.run([*command, "run", "--tasks-max", "50", "--", "true"], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    units = subprocess.run(
        ["systemctl", "--user", "list-units", "--all", "--plain", "--no-legend"], capture_output=True, text=True, check=True
    )
    scopes = {line.split()[0] for line in units.stdout.splitlines() if line.startswith("ringfence-run-")}
    assert scopes <= {f"ringfence-run-{os.getpid()}.scope"}  # our own, once a test has run a job in this process


def test_the_doctor_proves_memory_tasks_and_quota() -> None:
    done = ringfence("doctor")
    proven = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("proven")}
    assert {"cgroup", "tree", "memory_max", "tasks_max", "cpu_quota"} <= proven, done.stdout
    assert os.geteuid() != 0


def processes(words: str) -> list[str]:
    """Ids of the processes with this command line."""
    ps = subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in ps.stdout.splitlines() if line.split(None, 1)[1] == words]


def test_a_later_command_sweeps_the_scope_that_a_killed_one_left() -> None:
    """SIGKILL to ``ringfence run`` leaves a daemon of its job in a scope nobody owns; the next command ends it."""
    script = "setsid sleep 98.7 & echo ready; exec sleep 98.6"
    with subprocess.Popen([command(), "run", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        eventually(lambda: processes("sleep 98.7"))
        process.kill()
    assert ringfence("run", "--", "true").returncode == 0
    eventually(lambda: not processes("sleep 98.7") and not processes("sleep 98.6"))
