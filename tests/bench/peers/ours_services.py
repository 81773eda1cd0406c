# SPDX-License-Identifier: Apache-2.0
"""ours_services COUNT IDLE_SECONDS COMMAND...: so many services: their start, what each costs, whether an idle supervisor sleeps, their stop."""

from __future__ import annotations

import asyncio
import sys

import supervisor
from tests.bench.peers.measure import WARM_CHILDREN, Herd, raise_descriptor_limit


async def run(count: int, idle: int, command: list[str], herd: Herd | None) -> None:
    """Keep ``count`` services running for a while."""
    async with supervisor.Supervisor() as sup:
        specs = [supervisor.ServiceSpec(name=f"s{number}", exec_start=command, restart="always") for number in range(count)]
        group = supervisor.ServiceGroup(sup, specs)
        await group.start()
        if herd is not None:
            herd.started()
            await asyncio.sleep(0.5)
            herd.settled()
            await asyncio.sleep(idle)
            herd.idled(idle)
        await group.stop()


async def main() -> None:
    """Run the contender."""
    raise_descriptor_limit()
    count, idle, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    await run(WARM_CHILDREN, 0, command, None)
    herd = Herd(count)
    await run(count, idle, command, herd)
    herd.report()


asyncio.run(main())
