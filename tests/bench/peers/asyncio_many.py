# SPDX-License-Identifier: Apache-2.0
"""asyncio_many MODE COUNT IDLE_SECONDS COMMAND ARG.... MODE: default, pidfd, threaded or uvloop."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Iterator

from tests.bench.peers.event_loop import run_on
from tests.bench.peers.measure import WARM_CHILDREN, Herd, raise_descriptor_limit, turns

IN_FLIGHT = 16


async def start(count: int, command: list[str]) -> list[Process]:
    """Start them, some at once."""
    processes: list[Process] = []

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            processes.append(await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL))

    left = turns(count)
    await asyncio.gather(*(work(left) for _ in range(IN_FLIGHT)))
    return processes


async def stop(processes: list[Process]) -> None:
    """Kill them all, then wait for each."""
    for process in processes:
        process.kill()
    for process in processes:
        await process.wait()


async def main() -> None:
    """Run the contender."""
    raise_descriptor_limit()
    count, seconds, command = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    await stop(await start(WARM_CHILDREN, command))
    herd = Herd(count)
    processes = await start(count, command)
    herd.started()
    await asyncio.sleep(0.5)
    herd.settled()
    await asyncio.sleep(seconds)
    herd.idled(seconds)
    await stop(processes)
    herd.report()


run_on(sys.argv[1], main)
