# SPDX-License-Identifier: Apache-2.0
"""ours_pool submit|run|executor|map|trip|fresh COUNT: our pool of two workers."""

from __future__ import annotations

import asyncio
import sys
import time

from supervisor import Pool
from tests.bench.peers.pool_tasks import first_answer, nothing, report_fresh, report_tasks, report_trips

COROUTINES = 16


async def warm(pool: Pool) -> None:
    """Both workers are up and have worked."""
    await asyncio.gather(*[pool.run(time.sleep, 0.1) for _ in range(2)])
    await pool.map(nothing, range(200))


async def rates(how: str, count: int) -> None:
    async with Pool(2, limits={"limit_nofile": 1024}) as pool:
        await warm(pool)
        begun = time.perf_counter()
        if how == "submit":
            for task in [pool.submit(nothing, n) for n in range(count)]:
                await task
        elif how == "run":

            async def loop() -> None:
                for n in range(count // COROUTINES):
                    await pool.run(nothing, n)

            await asyncio.gather(*[loop() for _ in range(COROUTINES)])
        elif how == "executor":
            executor = pool.executor()
            await asyncio.to_thread(lambda: [future.result() for future in [executor.submit(nothing, n) for n in range(count)]])
        else:
            await pool.map(nothing, range(count))
        report_tasks(count, begun)


async def trips(count: int) -> None:
    async with Pool(2) as pool:
        await warm(pool)
        taken = []
        for n in range(count):
            begun = time.perf_counter()
            await pool.run(nothing, n)
            taken.append(time.perf_counter() - begun)
        report_trips(taken)


async def fresh(count: int) -> None:
    """Each task gets a worker of its own, forked for it."""
    async with Pool(1, preload=["numpy", "tests.bench.peers.pool_tasks"], limits={"limit_nofile": 1024}, max_tasks=1) as pool:
        await pool.run(first_answer)
        taken = []
        for _ in range(count):
            while pool.processes:
                await asyncio.sleep(0.002)
            begun = time.perf_counter()
            await pool.run(first_answer)
            taken.append(time.perf_counter() - begun)
        report_fresh(taken)


def main() -> None:
    """Run the contender."""
    how, count = sys.argv[1], int(sys.argv[2])
    asyncio.run({"trip": trips, "fresh": fresh}[how](count) if how in ("trip", "fresh") else rates(how, count))


if __name__ == "__main__":
    main()
