# SPDX-License-Identifier: Apache-2.0
"""Short jobs of every fate, some of which are paused, resumed and given other limits meanwhile."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

from supervisor import ClosedError, Job
from supervisor.model.limit_kinds import Rlimit
from tests.stress.ground import Ground

PYTHON = (sys.executable, "-I", "-S", "-c")
AT_ONCE = 3
TERM = 15


async def act(ground: Ground) -> None:
    """Some at once, each after the other."""
    own: set[Job] = set()
    with ground.killer.hunting("job", lambda: own):
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(_one_by_one(ground, own, ground.chance(f"jobs {number}")))


async def _one_by_one(ground: Ground, own: set[Job], chance: random.Random) -> None:
    while not ground.over:
        command, options, wanted = chance.choice(FATES)
        job = await ground.within("start", ground.sup.start(list(command), **options))
        own.add(job)
        try:
            if "sleep" in command[0] and "limits" not in options:
                await _disturb(ground, job, chance)
                outcome = await ground.within("terminate", job.terminate(grace=chance.choice(["0s", "10s"])))
                ground.check_end(job, outcome, ("cancelled",))
            else:
                ground.check_end(job, await ground.within("wait", job.wait()), wanted)
        finally:
            own.discard(job)
        ground.counts["jobs"] += 1
        ground.counts[f"jobs {job.outcome.verdict if job.outcome else ''}"] += 1


async def _disturb(ground: Ground, job: Job, chance: random.Random) -> None:
    """Whatever may be done to a job that runs."""
    for _ in range(chance.randrange(6)):
        step = chance.randrange(5)
        if step == 0:
            await ground.within("pause", job.pause())
        elif step == 1:
            await ground.within("resume", job.resume())
        elif step == 2:
            soft = chance.randrange(32, 512)
            try:
                by = await ground.within("set_limits", job.set_limits(limit_nofile=f"{soft}:512", wall_time_max="1min"))
            except ClosedError:
                ground.claim(job.ended or job.id in ground.killer.jobs, f"job {job.id} refuses limits as if it had ended")
                continue
            ground.claim("limit_nofile" in by and job.limits.limit_nofile == Rlimit(soft=soft, hard=512), f"limits: {by} {job.limits}")
        elif step == 3:
            await job.send_signal(0)
        else:
            await asyncio.sleep(chance.uniform(0, 0.05))
        ground.counts["steps"] += 1


FATES: tuple[tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]], ...] = (
    (("/bin/true",), {"limits": {"limit_nofile": 64, "limit_core": 0}}, ("ok",)),
    (("/bin/false",), {}, ("nonzero_exit",)),
    (("/nonexistent/program",), {}, ("start_failed",)),
    (("/bin/sleep", "60"), {"limits": {"wall_time_max": "20ms"}}, ("wall_limit",)),
    (("/bin/sleep", "60"), {}, ()),
    (("/bin/sleep", "60"), {}, ()),
    (("/bin/sh", "-c", "kill -SEGV $$"), {"limits": {"limit_core": 0}}, ("signaled",)),
    (("/bin/sh", "-c", "sleep 60 & sleep 60 & exit 7"), {}, ("nonzero_exit",)),
    ((*PYTHON, "while True: pass"), {"limits": {"cpu_time_max": "30ms"}}, ("cpu_limit",)),
    (("/usr/bin/yes",), {"capture_output": True, "limits": {"output_max": 50_000}}, ("output_limit",)),
    (("/bin/true",), {"sandbox": "basic"}, ("ok",)),
    (("/bin/true",), {"sandbox": "strict"}, ("ok",)),
    (("/bin/sleep", "60"), {"sandbox": "strict", "limits": {"wall_time_max": "60ms"}}, ("wall_limit",)),
)
