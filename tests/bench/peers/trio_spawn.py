# SPDX-License-Identifier: Apache-2.0
"""trio_spawn IN_FLIGHT COUNT COMMAND."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator

from tests.bench.peers.measure import WARM_SPAWNS, own_cpu, report_rate, turns

trio = importlib.import_module("trio")


async def batch(in_flight: int, count: int, command: str) -> None:
    """``count`` spawned and reaped, ``in_flight`` at once."""

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            process = await trio.lowlevel.open_process([command])
            if await process.wait() != 0:
                raise SystemExit(f"{command} failed")

    left = turns(count)
    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(work, left)


async def main() -> None:
    """Run the contender."""
    in_flight, count, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    await batch(in_flight, WARM_SPAWNS, command)
    cpu, begun = own_cpu(), time.monotonic()
    await batch(in_flight, count, command)
    report_rate(count, cpu, begun)


trio.run(main)
