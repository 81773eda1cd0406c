# SPDX-License-Identifier: Apache-2.0
"""How many workers there are, when they come and go, and under which limits they live."""

from __future__ import annotations

import asyncio
import resource

import pool_tasks
import pytest
from waiting import PATIENCE, is_alive

from supervisor import Pool


async def settled(condition: object) -> None:
    """Until the condition holds; the loop runs meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_workers_come_on_demand_up_to_the_most() -> None:
    async with Pool(3) as pool:
        assert pool.processes == ()
        assert len({await task for task in [pool.submit(pool_tasks.nap, 0.3) for _ in range(9)]}) == 1
        assert len(pool.processes) == 3


async def test_one_after_the_other_needs_one_worker() -> None:
    async with Pool(3) as pool:
        assert len({await pool.run(pool_tasks.pid) for _ in range(20)}) == 1
        assert len(pool.processes) == 1


async def test_the_least_and_the_spares_are_there_before_they_are_needed() -> None:
    async with Pool(5, min_processes=2) as pool:
        await settled(lambda: len(pool.processes) == 2)
    async with Pool(4, spare=1) as pool:
        await settled(lambda: len(pool.processes) == 1)
        task = pool.submit(pool_tasks.nap, 1)
        await settled(lambda: len(pool.processes) == 2)
        task.cancel()


async def test_those_idle_too_long_leave_and_the_least_stays() -> None:
    async with Pool(4, min_processes=1, idle_timeout="150ms") as pool:
        await asyncio.gather(*[pool.run(pool_tasks.nap, 0.3) for _ in range(4)])
        before = pool.processes
        assert len(before) == 4
        await settled(lambda: len(pool.processes) == 1)
        assert sum(is_alive(pid) for pid in before) == 1
        assert await pool.run(pool_tasks.pid) in before


async def test_a_worker_is_replaced_after_so_many_tasks_and_none_is_lost() -> None:
    async with Pool(1, max_tasks=5) as pool:
        pids = [await pool.run(pool_tasks.pid) for _ in range(20)]
        assert [len(set(pids[n : n + 5])) for n in range(0, 20, 5)] == [1, 1, 1, 1]
        assert len(set(pids)) == 4


async def test_a_worker_is_replaced_when_it_is_old_or_has_grown() -> None:
    async with Pool(1, max_age="1ms") as pool:
        assert len({await pool.run(pool_tasks.pid) for _ in range(3)}) == 3
    async with Pool(1, max_memory="120M") as pool:
        first = await pool.run(pool_tasks.pid)
        assert await pool.run(pool_tasks.grow_memory, 150 << 20) == first
        assert await pool.run(pool_tasks.pid) != first


@pytest.mark.usefixtures("holder")
async def test_every_worker_lives_under_the_limits_of_the_pool() -> None:
    async with Pool(2, limits={"limit_nofile": 77}) as pool:
        assert set(await pool.map(pool_tasks.soft_limit, [resource.RLIMIT_NOFILE] * 4)) == {77}


@pytest.mark.requires("cgroup")
async def test_every_worker_has_a_cgroup_of_its_own() -> None:
    async with Pool(2, min_processes=2) as pool:
        await settled(lambda: len(pool.processes) == 2)
        task = pool_tasks.cgroup_of_a_busy_worker
        places = await asyncio.gather(pool.run(task), pool.run(task))
        assert len(set(places)) == 2


async def test_an_idle_pool_does_not_wake() -> None:
    async with Pool(2, min_processes=2) as pool:
        await pool.map(pool_tasks.nap, [0.1, 0.1])
        loop = asyncio.get_running_loop()
        assert not [handle for handle in getattr(loop, "_scheduled", []) if not handle.cancelled()]
