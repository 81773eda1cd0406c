# SPDX-License-Identifier: Apache-2.0
"""Supervisors that are opened, cancelled at any moment and closed, with per-job events and sessions inside."""

from __future__ import annotations

import asyncio
import random

from supervisor import Job, Session, Supervisor, Terminated
from tests.stress.ground import Ground


async def act(ground: Ground) -> None:
    """One scope after the other."""
    chance = ground.chance("scopes")
    own: set[Job] = set()
    with ground.killer.hunting("scope", lambda: own):
        while not ground.over:
            own.clear()
            await ground.within("scope", _scope(ground, own, chance))
            ground.claim(all(job.ended for job in own), "a job has outlived its supervisor")
            ground.counts["scopes"] += 1


async def _scope(ground: Ground, own: set[Job], chance: random.Random) -> None:
    clock = asyncio.timeout(chance.choice([0.01, 0.05, 0.2, None]))
    try:
        async with clock, Supervisor() as sup:
            jobs = [await sup.start(["/bin/sleep", chance.choice(["0.01", "60"])]) for _ in range(3)]
            own.update(jobs)
            if chance.random() < 0.3:
                await _session(ground)
            for job in jobs[:2]:
                await job.pause()
                await job.resume()
            await jobs[0].terminate()
            events = [event async for event in jobs[0].events()]
            ground.claim(isinstance(events[-1], Terminated), "the last event of a job is not its end")
            raise Enough
    except Enough:
        return
    except TimeoutError:
        if not clock.expired():
            raise


class Enough(Exception):
    """Leave the scope at once, by an exception."""


async def _session(ground: Ground) -> None:
    async with Session() as session:
        await session.put({"given": b"some text"})
        outcome = await session.run(["/bin/sh", "-c", "cat given > made; sleep 60 &"])
        ground.claim(outcome.ok, f"a session's command: {outcome.summary()}")
        collected = await session.collect("made")
        ground.claim(collected["made"] == b"some text", f"collected {collected}")
    ground.counts["sessions"] += 1
