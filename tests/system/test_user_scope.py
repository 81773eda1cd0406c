# SPDX-License-Identifier: Apache-2.0
"""An ordinary user under ``systemd --user``: a delegated scope of our own, with real controllers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor

pytestmark = [pytest.mark.requires("vm", "user")]
RINGFENCE = Path(sys.executable).with_name("ringfence")


def ringfence(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = RINGFENCE if RINGFENCE.exists() else Path("/job/bin/ringfence")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=50)


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
    assert "ringfence-run-" not in units.stdout


def test_the_doctor_proves_memory_tasks_and_quota() -> None:
    done = ringfence("doctor")
    proven = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("proven")}
    assert {"cgroup", "tree", "memory_max", "tasks_max", "cpu_quota"} <= proven, done.stdout
    assert os.geteuid() != 0
