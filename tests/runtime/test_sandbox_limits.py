# SPDX-License-Identifier: Apache-2.0
"""Limits of a cgroup hold a sandboxed job and not the init helper beside it."""

from __future__ import annotations

import pytest
from sandboxes import LIMITS, run_strict

import supervisor
from supervisor.model.sandbox import Sandbox

pytestmark = [pytest.mark.requires("mount", "cgroup")]
STRICT = Sandbox(level="strict")


@pytest.mark.requires("memory")
async def test_limits_of_a_strict_job_are_held_by_its_box_and_can_be_changed() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/bin/sleep", "1000"], sandbox=STRICT, limits={"memory_max": "64M", "tasks_max": 8})
        await job.set_limits(memory_max="32M")
        assert job.enforcement["memory_max"] == "cgroup memory.max"
        await job.kill()


@pytest.mark.requires("memory")
def test_memory_beyond_the_limit_is_that_verdict_and_the_helper_survives_to_tell() -> None:
    outcome = run_strict("b = bytearray(96 << 20)", limits={**LIMITS, "memory_max": "32M"})
    assert outcome.verdict == "memory_limit", outcome
    assert outcome.usage.memory_peak_bytes is not None and outcome.usage.memory_peak_bytes <= 36 << 20
    assert outcome.exit.signal == 9


@pytest.mark.requires("memory")
def test_a_full_tmp_counts_as_memory() -> None:
    code = "f = open('/tmp/f', 'wb', buffering=0)\nfor n in range(48): f.write(bytes(1 << 20))"
    outcome = run_strict(code, limits={**LIMITS, "memory_max": "32M"})
    assert outcome.verdict == "memory_limit", outcome


@pytest.mark.requires("pids")
def test_tasks_max_holds_in_the_sandbox() -> None:
    code = "import os, signal\nfor n in range(64):\n    if os.fork() == 0: signal.pause()"
    outcome = run_strict(code, limits={**LIMITS, "tasks_max": 16})
    assert (outcome.verdict, outcome.usage.tasks_peak) == ("tasks_limit", 16), outcome
