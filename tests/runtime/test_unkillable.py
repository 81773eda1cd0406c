# SPDX-License-Identifier: Apache-2.0
"""Jobs that we may not signal, because they have become another user's: what ``sudo`` is for an ordinary user's supervisor.

Here the other way round: a supervisor of root's without CAP_KILL, and jobs of an ordinary user's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import facts
import pytest
from programs import RINGFENCE, without_cap_kill
from waiting import PATIENCE, SLOW, Line

pytestmark = pytest.mark.requires("root")
CODE = """
import asyncio, sys
from supervisor import Supervisor

async def main():
    how, mode, fd = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limits = {"wall_time_max": "200ms"} if how == "limit" else {}
    options = dict(user=65534, group=65534, extra_groups=(), limits=limits, kill_grace="200ms", kill_mode=mode, pass_fds=[fd])
    async with Supervisor() as sup:
        jobs = [await sup.start(["sleep", "600"], **options) for _ in range(2)]
        if how == "terminate":
            await asyncio.gather(*[job.terminate() for job in jobs])
        elif how == "limit":
            await asyncio.gather(*[job.wait() for job in jobs])
        elif how == "paused":
            for job in jobs:
                await job.pause()
    for job in jobs:
        print(job.outcome.verdict, job.outcome.exit.signal, *job.outcome.warnings)

asyncio.run(main())
"""


@pytest.mark.requires("cgroup")
@pytest.mark.parametrize("mode", ["mixed", "control-group"])
@pytest.mark.parametrize("how", ["leave", "paused", "terminate", "limit"])
def test_a_job_that_may_not_be_asked_to_end_is_killed_after_its_grace(how: str, mode: str) -> None:
    """By whatever end: the scope's, a call, a limit. The outcome says that nobody asked it."""
    with Line() as line:
        command: list[Any] = [sys.executable, "-c", CODE, how, mode, str(line.end)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=without_cap_kill, pass_fds=[line.end], check=False
        )
        verdict = "wall_limit" if how == "limit" else "cancelled"
        said = f"{verdict} 9 the job could not be asked to end: Operation not permitted"
        assert (done.stdout.splitlines(), done.stderr) == ([said] * 2, "")
        line.wait_closed()


UNENDED = """
import asyncio
from supervisor import Supervisor

async def main():
    async with Supervisor() as sup:
        outcome = await sup.run(["sh", "-c", "echo $$; exec sleep 600"], user=65534, group=65534, extra_groups=(), limits={"wall_time_max": "200ms"})
        print(outcome.verdict, *outcome.limits_hit, outcome.exit.code, outcome.usage.cpu_ns, outcome.error.message)

asyncio.run(main())
"""


@pytest.mark.usefixtures("no_cgroup")
@pytest.mark.parametrize("command", [False, True], ids=["supervisor", "command"])
def test_without_a_cgroup_a_process_that_may_not_be_killed_is_said_to_live_on(command: bool) -> None:
    """The helper has no more rights than we: no verdict of the limit, no exit, no numbers are made up."""
    who = ("--user", str(facts.NOBODY), "--wall-time-max", "200ms")
    argv = [RINGFENCE, "run", *who, "sh", "-c", "echo $$; exec sleep 600"] if command else [sys.executable, "-c", UNENDED]
    with Line() as line:
        options: dict[str, Any] = {"stdout": line.end, "stderr": line.end, "stdin": subprocess.DEVNULL}
        done = subprocess.run(argv, preexec_fn=without_cap_kill, timeout=PATIENCE * SLOW, check=False, **options)
        os.kill(int(line.read()), signal.SIGKILL)  # it is alive: whoever is not raises here
        said = line.read()
        line.wait_closed()
    error = "a process of the job cannot be killed; it lives on"
    assert (done.returncode, said) == (
        (125, f"ringfence: sandbox_error: {error}") if command else (0, f"sandbox_error wall_time_max None None {error}")
    )
