# SPDX-License-Identifier: Apache-2.0
"""ours_many COUNT IDLE_SECONDS COMMAND ARG...."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator

import supervisor
from tests.bench.peers.measure import WARM_CHILDREN, Herd, raise_descriptor_limit, turns

IN_FLIGHT = 16


async def start(sup: supervisor.Supervisor, count: int, command: list[str]) -> list[supervisor.Job]:
    """Start them, some at once."""
    jobs: list[supervisor.Job] = []

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            jobs.append(await sup.start(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL))

    left = turns(count)
    await asyncio.gather(*(work(left) for _ in range(IN_FLIGHT)))
    return jobs


async def stop(jobs: list[supervisor.Job]) -> None:
    """Kill them all, then wait for each."""
    await asyncio.gather(*(job.terminate(grace=0) for job in jobs))
    for job in jobs:
        await job.wait()


async def main() -> None:
    """Run the contender."""
    raise_descriptor_limit()
    count, seconds, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    async with supervisor.Supervisor() as sup:
        await stop(await start(sup, WARM_CHILDREN, command))
        herd = Herd(count)
        jobs = await start(sup, count, command)
        herd.started()
        await asyncio.sleep(0.5)
        herd.settled()
        await asyncio.sleep(seconds)
        herd.idled(seconds)
        await stop(jobs)
        herd.report()


asyncio.run(main())
