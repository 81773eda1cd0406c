# SPDX-License-Identifier: Apache-2.0
"""ours_service OTHERS CHILD FIFO: keep one service running, beside ``OTHERS`` idle ones, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import supervisor


async def main() -> None:
    """Run the services."""
    others, child, fifo = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with supervisor.Supervisor() as sup:
        kept: dict[str, Any] = {"restart": "always", "restart_sec": 0, "start_limit_burst": 0}
        services = [supervisor.Service(sup, supervisor.ServiceSpec(name="one", exec_start=[child, fifo], **kept))]
        if others:
            services.append(supervisor.Service(sup, supervisor.ServiceSpec(name="idle", exec_start=[child], replicas=others, **kept)))
        for service in reversed(services):
            await service.start()
        await told.wait()


asyncio.run(main())
