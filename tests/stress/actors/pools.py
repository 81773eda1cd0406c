# SPDX-License-Identifier: Apache-2.0
"""A pool with a template, workers that wear out, and a pool of commands: a kill costs one task, and no pool breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Iterable
from typing import Any

from supervisor import Job, JobFailed, Pool, TaskTimeoutError
from tests.stress import tasks
from tests.stress.ground import Broken, Ground

CLIENTS = 4
ITEMS = 100


def _workers(pool: Pool) -> Iterable[Job]:
    return [worker.job for worker in pool._open_crew().workers if worker.job is not None] if pool._crew is not None else []


def _template(pool: Pool) -> Iterable[Job]:
    template = getattr(pool._open_crew()._launcher, "_template", None)
    return [] if template is None else [template.job]


async def act(ground: Ground) -> None:
    """Both pools, and some who give them tasks."""
    sup = ground.sup
    async with (
        Pool(
            3, min_processes=1, preload=["json", "tests.stress.tasks"], max_tasks=40, supervisor=sup, limits={"limit_nofile": 128}
        ) as pool,
        Pool(2, command=["/bin/sed", "-u", "s/^/got /"], supervisor=sup) as commands,
    ):
        with (
            ground.killer.hunting("worker", lambda: _workers(pool)),
            ground.killer.hunting("template", lambda: _template(pool)),
            ground.killer.hunting("command worker", lambda: _workers(commands)),
        ):
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(_give(ground, pool, ground.chance(f"pool {number}")))
                group.create_task(_give_lines(ground, commands, ground.chance("lines")))
        ground.claim(await ground.within("task", pool.run(tasks.add, 1)) == 2, "the pool still works when nobody is killed")
        await ground.within("close a pool", pool.aclose())
        await ground.within("close a pool", commands.aclose())


async def _give(ground: Ground, pool: Pool, chance: random.Random) -> None:
    while not ground.over:
        number = chance.randrange(1000)
        step = chance.randrange(8)
        if step < 3:
            await _expect(ground, pool.run(tasks.add, number), number + 1)
        elif step == 3:
            await _expect(ground, pool.run(tasks.nap, chance.uniform(0, 0.03), number), number)
        elif step == 4:
            await _expect(ground, pool.run(tasks.refuse, "no"), ValueError)
        elif step == 5:
            await _expect(ground, pool.under(timeout="50ms").run(tasks.nap, 60), TaskTimeoutError)
        elif step == 6:
            await _cancelled(ground, pool, chance)
        else:
            await _expect(ground, pool.map(tasks.add, range(ITEMS)), list(range(1, ITEMS + 1)))
        ground.counts["tasks"] += 1


async def _expect(ground: Ground, task: Awaitable[Any], wanted: Any) -> None:
    """That result, that kind of exception, or the failure of a killed worker."""
    try:
        found = await ground.within("task", task)
    except Exception as error:
        if isinstance(wanted, type) and isinstance(error, wanted):
            return
        if isinstance(error, JobFailed) and not isinstance(error, TaskTimeoutError) and ground.was_killed(error.outcome):
            ground.counts["tasks killed"] += 1
            return
        raise
    if found != wanted:
        raise Broken(f"a task returned {found!r:.100} instead of {wanted!r:.100}")


async def _cancelled(ground: Ground, pool: Pool, chance: random.Random) -> None:
    task = pool.submit(tasks.nap, 60)
    await asyncio.sleep(chance.uniform(0, 0.03))
    task.cancel()
    try:
        await ground.within("cancelled task", task)
    except asyncio.CancelledError:
        return
    except JobFailed as error:
        ground.claim(ground.was_killed(error.outcome), f"a task failed by itself: {error}")


async def _give_lines(ground: Ground, pool: Pool, chance: random.Random) -> None:
    while not ground.over:
        line = f"line {chance.randrange(1000)}"
        await _expect(ground, pool.run(line), f"got {line}")
        ground.counts["lines"] += 1
        await asyncio.sleep(chance.uniform(0, 0.01))
