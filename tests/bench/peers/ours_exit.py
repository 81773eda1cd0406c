# SPDX-License-Identifier: Apache-2.0
"""ours_exit async|sync COUNT EXIT_CHILD: ``Job.wait``, or ``supervisor.run`` told by another thread."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import supervisor
from tests.bench.peers.exit_pipes import ExitPipes
from tests.bench.peers.measure import WARM_EXITS, ExitTimes


async def once(sup: supervisor.Supervisor, times: ExitTimes, program: str) -> None:
    """One child's end, awaited."""
    pipes = ExitPipes()
    job = await sup.start([program], stdin=pipes.child_in, stdout=pipes.child_out)
    pipes.started()

    async def wait() -> int:
        await job.wait()
        return time.monotonic_ns()

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0.002)
    told = time.monotonic_ns()
    os.write(pipes.tell, b"x")
    times.add(told, await waiter, pipes.hear)
    pipes.close()


def once_sync(times: ExitTimes, program: str) -> None:
    """One child's end, while this thread is in ``run``."""
    pipes = ExitPipes()
    told = 0

    def tell() -> None:
        nonlocal told
        os.read(pipes.hear, 1)
        time.sleep(0.002)
        told = time.monotonic_ns()
        os.write(pipes.tell, b"x")

    teller = threading.Thread(target=tell)
    teller.start()
    supervisor.run([program], stdin=pipes.child_in, stdout=pipes.child_out)
    over = time.monotonic_ns()
    teller.join()
    times.add(told, over, pipes.hear)
    os.close(pipes.child_in)
    os.close(pipes.child_out)
    pipes.close()


async def main_async(times: ExitTimes, count: int, program: str) -> None:
    """Run the awaiting contender."""
    async with supervisor.Supervisor() as sup:
        for _ in range(WARM_EXITS):
            await once(sup, ExitTimes(), program)
        for _ in range(count):
            await once(sup, times, program)


def main() -> None:
    """Run the contender."""
    times, count, program = ExitTimes(), int(sys.argv[2]), sys.argv[3]
    if sys.argv[1] == "async":
        asyncio.run(main_async(times, count, program))
    else:
        for _ in range(WARM_EXITS):
            once_sync(ExitTimes(), program)
        for _ in range(count):
            once_sync(times, program)
    times.report()


main()
