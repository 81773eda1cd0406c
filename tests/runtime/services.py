# SPDX-License-Identifier: Apache-2.0
"""Services for the tests: specifications of the probe program, and waiting for what they say without stopping the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from programs import probe
from waiting import Line

from supervisor import Job, JobSpec, Service, ServiceSpec, Supervisor


def steps(*words: str, **given: Any) -> ServiceSpec:
    """A service that takes these steps (see tests/probes/notify.py); ``pass_fds`` goes to its job, the rest to the specification."""
    job = JobSpec(argv=probe("notify", *words), pass_fds=tuple(given.pop("pass_fds", ())))
    return ServiceSpec(**{"name": "web", "exec_start": job, "restart_sec": 0, "timeout_stop_sec": 20, **given})


async def heard(line: Line) -> str:
    """The next line, the event loop running on meanwhile."""
    return await asyncio.to_thread(line.read)


def living(sup: Supervisor) -> list[Job]:
    """The jobs that are not over; one whose end has just been told may still be in ``sup.jobs``."""
    return [job for job in sup.jobs if not job.ended]


def pid_of(service: Service, number: int = 0) -> int:
    """The main process of one replica; fails when there is none."""
    job = service.replicas[number].job
    assert job is not None
    return job.pid


async def replaced(service: Service, pid: int, number: int = 0) -> int:
    """Wait until another process than ``pid`` is up; its number."""
    replica = service.replicas[number]
    await service.until(lambda: replica.state == "active" and replica.job is not None and replica.job.pid != pid)
    return pid_of(service, number)
