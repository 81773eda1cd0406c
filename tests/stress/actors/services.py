# SPDX-License-Identifier: Apache-2.0
"""A service whose replicas are killed, scaled, paused and restarted: it is up again in time, and gone when it is stopped."""

from __future__ import annotations

import asyncio

from supervisor import Job, Service, ServiceSpec
from tests.stress.ground import Ground


def _jobs(service: Service) -> list[Job]:
    return [replica.job for replica in service.replicas if replica.job is not None]


async def act(ground: Ground) -> None:
    """One service through all of it."""
    chance = ground.chance("services")
    spec = ServiceSpec(
        name="web",
        exec_start=["/bin/sleep", "3600"],
        restart="always",
        restart_sec="10ms",
        start_limit_burst=0,
        replicas=2,
        timeout_stop_sec=10,
    )
    service = Service(ground.sup, spec)
    await ground.within("start a service", service.start())
    with ground.killer.hunting("service", lambda: _jobs(service)):
        while not ground.over:
            step = chance.randrange(6)
            if step == 0:
                await ground.within("scale", service.scale(chance.randrange(1, 5)))
            elif step == 1:
                await ground.within("restart", service.restart(rolling=chance.random() < 0.5))
            elif step == 2:
                await ground.within("pause a service", service.pause())
                await ground.within("resume a service", service.resume())
            else:
                await asyncio.sleep(chance.uniform(0, 0.2))
            await ground.within("up again", service.until(lambda: any(replica.state == "active" for replica in service.replicas)))
            ground.counts["service steps"] += 1
    await ground.within("all up again", service.until(lambda: all(replica.state == "active" for replica in service.replicas)))
    ground.counts["restarts"] += service.restarts
    jobs = _jobs(service)
    await ground.within("stop a service", service.stop())
    ground.claim(all(job.ended for job in jobs), "a stopped service has jobs left")
