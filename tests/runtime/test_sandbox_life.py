# SPDX-License-Identifier: Apache-2.0
"""Sandboxed jobs live and end as others do: paused, stopped, many at once, and never longer than their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sandboxes import LIMITS, run_strict
from waiting import SLOW, Line, eventually

import supervisor
from supervisor.model.sandbox import Sandbox

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]
STRICT = Sandbox(level="strict")


@pytest.mark.timeout(300)
async def test_a_hundred_strict_jobs_at_once_do_not_meet() -> None:
    async with supervisor.Supervisor() as sup:

        async def one(number: int) -> str:
            script = f"echo {number} > /tmp/f; sleep 0.05; cat /tmp/f; ls -d /proc/[0-9]* | wc -l; hostname"
            sandbox = Sandbox(level="strict", hostname=f"job-{number}")
            job = await sup.start(["/bin/sh", "-c", script], sandbox=sandbox, capture_output=True)
            outcome = await job.wait()
            assert outcome.verdict == "ok", outcome
            return str(outcome.stdout, "ascii")

        for number, text in enumerate(await asyncio.gather(*[one(number) for number in range(100)])):
            first, processes, name = text.split()
            assert (first, name) == (str(number), f"job-{number}") and int(processes) <= 4


async def test_a_strict_job_is_paused_and_runs_on() -> None:
    async with supervisor.Supervisor() as sup:
        with Line() as line:
            code = "while :; do echo x > /proc/self/fd/$1; sleep 0.01; done"
            job = await sup.start(["/bin/sh", "-c", code, "sh", str(line.end)], sandbox=STRICT, pass_fds=[line.end], limits=LIMITS)
            line.release()
            assert line.read(timeout=5)
            await job.pause()
            assert job.state == "paused"
            await job.resume()
            assert line.read(timeout=5)
            outcome = await job.terminate()
            assert (outcome.verdict, outcome.exit.signal) == ("cancelled", 15)


async def test_a_paused_strict_job_can_be_killed() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/bin/sleep", "1000"], sandbox=STRICT)
        await job.pause()
        outcome = await job.kill()
        assert outcome.verdict == "cancelled"


async def test_a_wall_limit_holds_while_the_event_loop_stands_still() -> None:
    """The job, and a child that ignores what it can, are dead soon after the deadline although nothing of Python ran meanwhile."""
    async with supervisor.Supervisor() as sup:
        with Line() as line:
            script = "(trap '' TERM; setsid sleep 1000) & sleep 1000"
            limits = {"wall_time_max": 0.3}
            job = await sup.start(["/bin/sh", "-c", script], sandbox=STRICT, limits=limits, pass_fds=[line.end])
            line.release()
            line.wait_closed()  # blocks the loop
            outcome = await job.wait()
    assert (outcome.verdict, outcome.killed, outcome.limits_hit) == ("wall_limit", True, ("wall_time_max",)), outcome
    assert outcome.usage.wall_ns is not None and 0.3e9 <= outcome.usage.wall_ns < 10e9 * SLOW


async def test_a_strict_job_that_ended_in_time_is_not_blamed_for_a_late_look() -> None:
    async with supervisor.Supervisor() as sup:
        with Line() as line:
            job = await sup.start(["/bin/sleep", "0.1"], sandbox=STRICT, limits={"wall_time_max": 0.4}, pass_fds=[line.end])
            line.release()
            deadline = time.monotonic() + 0.6
            line.wait_closed()
            eventually(lambda: time.monotonic() > deadline)
            outcome = await job.wait()
    assert (outcome.verdict, outcome.killed, outcome.limits_hit) == ("ok", False, ()), outcome


async def test_a_signal_reaches_the_main_process() -> None:
    async with supervisor.Supervisor() as sup:
        with Line() as line:
            script = "trap 'exit 3' USR1; echo ready > /proc/self/fd/$1; while :; do sleep 0.01; done"
            job = await sup.start(["/bin/sh", "-c", script, "sh", str(line.end)], sandbox=STRICT, pass_fds=[line.end])
            line.release()
            assert line.read(timeout=5)
            await job.send_signal(signal.SIGUSR1)
            assert (await job.wait()).exit.code == 3


async def test_a_jobs_pid_is_the_hosts_number() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/bin/sleep", "1000"], sandbox=STRICT)
        eventually(lambda: Path(f"/proc/{job.pid}/comm").read_text() == "sleep\n")  # the name is set late in an exec
        await job.kill()


def test_a_job_ends_with_its_supervisor() -> None:
    code = """
import sys, supervisor
supervisor.run(["/bin/sh", "-c", "setsid sleep 1000 & echo ready > /proc/self/fd/$1; sleep 1000", "sh", sys.argv[1]], sandbox="strict", pass_fds=[int(sys.argv[1])])
"""
    with Line() as line:
        with subprocess.Popen([sys.executable, "-c", code, str(line.end)], pass_fds=[line.end]) as owner:
            line.release()
            try:
                assert line.read()
            finally:
                owner.kill()
        line.wait_closed()


def test_killing_the_init_helper_ends_everything() -> None:
    """From outside, by somebody with the right to: the kernel ends what is in its namespace, and the verdict is not the job's fault."""

    async def attack() -> supervisor.Outcome:
        async with supervisor.Supervisor() as sup:
            with Line() as line:
                script = "setsid sleep 1000 & sleep 1000"
                job = await sup.start(["/bin/sh", "-c", script], sandbox=STRICT, pass_fds=[line.end])
                line.release()
                status = Path(f"/proc/{job.pid}/status").read_text()
                parent = int(next(row.split()[1] for row in status.splitlines() if row.startswith("PPid")))
                os.kill(parent, signal.SIGKILL)
                outcome = await job.wait()
                line.wait_closed(timeout=5)
                return outcome

    outcome = asyncio.run(attack())
    assert outcome.verdict == "sandbox_error", outcome


def test_a_limit_holds_while_somebody_outside_keeps_the_init_helper_stopped() -> None:
    async def attack() -> supervisor.Outcome:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(["/bin/sleep", "1000"], sandbox=STRICT, limits={"wall_time_max": "500ms"})
            status = Path(f"/proc/{job.pid}/status").read_text()
            parent = int(next(row.split()[1] for row in status.splitlines() if row.startswith("PPid")))
            os.kill(parent, signal.SIGSTOP)
            return await job.wait()

    outcome = asyncio.run(attack())
    assert outcome.verdict == "wall_limit", outcome


def test_a_fork_bomb_is_ended_with_its_namespace() -> None:
    code = "import os\nfor n in range(12):\n    os.fork()\nwhile True: pass"
    outcome = run_strict(code, limits={"wall_time_max": 0.5, "limit_nproc": 200})
    assert outcome.verdict in ("wall_limit", "nonzero_exit"), outcome


def test_no_mount_is_left() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert run_strict("print(1)").verdict == "ok"
    eventually(lambda: Path("/proc/self/mountinfo").read_text() == before)
