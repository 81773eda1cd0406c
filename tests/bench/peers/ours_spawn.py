# SPDX-License-Identifier: Apache-2.0
"""ours_spawn plain|pipes IN_FLIGHT COUNT COMMAND, through ``Supervisor.start`` and ``Job.wait``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import supervisor
from tests.bench.peers.measure import CORE, NOFILE, STACK, WARM_SPAWNS, own_cpu, report_rate, turns

LIMITS = supervisor.Limits(limit_nofile=NOFILE, limit_core=CORE, limit_stack=STACK)


async def one(sup: supervisor.Supervisor, pipes: bool, command: str) -> None:
    """Spawn to reaped."""
    if pipes:
        job = await sup.start([command], limits=LIMITS, input=b"", capture_output=True)
    else:
        job = await sup.start([command], limits=LIMITS)
    outcome = await job.wait()
    if outcome.verdict != supervisor.Verdict.OK:
        raise SystemExit(f"{command}: {outcome}")


async def batch(sup: supervisor.Supervisor, pipes: bool, in_flight: int, count: int, command: str) -> None:
    """``count`` of them, ``in_flight`` at once."""

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            await one(sup, pipes, command)

    left = turns(count)
    await asyncio.gather(*(work(left) for _ in range(in_flight)))


async def main() -> None:
    """Run the contender."""
    pipes, in_flight, count, command = sys.argv[1] == "pipes", int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    async with supervisor.Supervisor() as sup:
        await batch(sup, pipes, in_flight, WARM_SPAWNS, command)
        cpu, begun = own_cpu(), time.monotonic()
        await batch(sup, pipes, in_flight, count, command)
        report_rate(count, cpu, begun)


asyncio.run(main())
