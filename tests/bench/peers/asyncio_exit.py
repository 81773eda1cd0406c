# SPDX-License-Identifier: Apache-2.0
"""asyncio_exit MODE COUNT EXIT_CHILD. MODE: default, pidfd, threaded or uvloop."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.bench.peers.event_loop import run_on
from tests.bench.peers.exit_pipes import ExitPipes
from tests.bench.peers.measure import WARM_EXITS, ExitTimes


async def once(times: ExitTimes, program: str) -> None:
    """One child's end."""
    pipes = ExitPipes()
    process = await asyncio.create_subprocess_exec(program, stdin=pipes.child_in, stdout=pipes.child_out)
    pipes.started()

    async def wait() -> int:
        await process.wait()
        return time.monotonic_ns()

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0.002)
    told = time.monotonic_ns()
    os.write(pipes.tell, b"x")
    times.add(told, await waiter, pipes.hear)
    pipes.close()


async def main() -> None:
    """Run the contender."""
    for _ in range(WARM_EXITS):
        await once(ExitTimes(), sys.argv[3])
    times = ExitTimes()
    for _ in range(int(sys.argv[2])):
        await once(times, sys.argv[3])
    times.report()


run_on(sys.argv[1], main)
