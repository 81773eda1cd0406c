# SPDX-License-Identifier: Apache-2.0
"""ours_sandbox LEVEL IN_FLIGHT COUNT COMMAND: sandboxed jobs through ``Supervisor.start`` and ``Job.wait``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import supervisor
from tests.bench.peers.measure import turns

WARM = 8


async def work(sup: supervisor.Supervisor, spec: supervisor.JobSpec, left: Iterator[int]) -> None:
    """One after the other until none is left."""
    for _ in left:
        outcome = await (await sup.start(spec)).wait()
        if outcome.verdict != supervisor.Verdict.OK:
            raise SystemExit(f"{outcome}")


async def main() -> None:
    """Run the contender."""
    level, in_flight, count, command = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    spec = supervisor.JobSpec(argv=(command,), sandbox=supervisor.Sandbox(level=level))
    async with supervisor.Supervisor() as sup:
        await work(sup, spec, turns(WARM))
        begun, left = time.monotonic(), turns(count)
        await asyncio.gather(*(work(sup, spec, left) for _ in range(in_flight)))
        print(f"rate {count / (time.monotonic() - begun):.1f} runs/s")


asyncio.run(main())
