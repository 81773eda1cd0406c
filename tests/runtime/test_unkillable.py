# SPDX-License-Identifier: Apache-2.0
"""Jobs that we may not signal, because they have become another user's: what ``sudo`` is for an ordinary user's supervisor.

Here the other way round: a supervisor of root's without CAP_KILL, and jobs of an ordinary user's.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from programs import without_cap_kill
from waiting import PATIENCE, Line

pytestmark = [pytest.mark.requires("root"), pytest.mark.requires("cgroup")]
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
