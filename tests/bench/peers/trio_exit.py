# SPDX-License-Identifier: Apache-2.0
"""trio_exit COUNT EXIT_CHILD."""

from __future__ import annotations

import importlib
import os
import sys
import time

from tests.bench.peers.exit_pipes import ExitPipes
from tests.bench.peers.measure import WARM_EXITS, ExitTimes

trio = importlib.import_module("trio")


async def once(times: ExitTimes, program: str) -> None:
    """One child's end."""
    pipes = ExitPipes()
    process = await trio.lowlevel.open_process([program], stdin=pipes.child_in, stdout=pipes.child_out)
    pipes.started()
    told = over = 0

    async def wait() -> None:
        nonlocal over
        await process.wait()
        over = time.monotonic_ns()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.002)
        told = time.monotonic_ns()
        os.write(pipes.tell, b"x")
    times.add(told, over, pipes.hear)
    pipes.close()


async def main() -> None:
    """Run the contender."""
    for _ in range(WARM_EXITS):
        await once(ExitTimes(), sys.argv[2])
    times = ExitTimes()
    for _ in range(int(sys.argv[1])):
        await once(times, sys.argv[2])
    times.report()


trio.run(main)
