# SPDX-License-Identifier: Apache-2.0
"""asyncio_spawn MODE[-pipes] IN_FLIGHT COUNT COMMAND. MODE: default, pidfd, threaded, preexec or uvloop."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterator

from tests.bench.peers.event_loop import run_on
from tests.bench.peers.measure import WARM_SPAWNS, own_cpu, report_rate, three_rlimits, turns


async def collect(mode: str, process: asyncio.subprocess.Process) -> None:
    """Give an empty stdin and read the rest; uvloop's communicate() fails when the child is quicker than it."""
    if mode != "uvloop":
        await process.communicate(b"")
        return
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    await asyncio.gather(process.stdout.read(), process.stderr.read())


async def one(mode: str, pipes: bool, command: str) -> None:
    """Spawn to reaped."""
    if pipes:
        process = await asyncio.create_subprocess_exec(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await collect(mode, process)
    elif mode == "preexec":
        process = await asyncio.create_subprocess_exec(command, preexec_fn=three_rlimits)
    else:
        process = await asyncio.create_subprocess_exec(command)
    if await process.wait() != 0:
        raise SystemExit(f"{command} failed")


async def batch(mode: str, pipes: bool, in_flight: int, count: int, command: str) -> None:
    """``count`` of them, ``in_flight`` at once."""

    async def work(left: Iterator[int]) -> None:
        for _ in left:
            await one(mode, pipes, command)

    left = turns(count)
    await asyncio.gather(*(work(left) for _ in range(in_flight)))


def main() -> None:
    """Run the contender."""
    mode, _, extra = sys.argv[1].partition("-")
    in_flight, count, command = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

    async def measured() -> None:
        await batch(mode, extra == "pipes", in_flight, WARM_SPAWNS, command)
        cpu, begun = own_cpu(), time.monotonic()
        await batch(mode, extra == "pipes", in_flight, count, command)
        report_rate(count, cpu, begun)

    run_on(mode, measured)


main()
