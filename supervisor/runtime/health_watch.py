# SPDX-License-Identifier: Apache-2.0
"""The task that asks a running service again and again whether it is well."""

from __future__ import annotations

import asyncio

from supervisor.control.health import Condition, observe
from supervisor.kernel.native import now_ns
from supervisor.model.state import JobState
from supervisor.runtime.checks import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from supervisor.model.check import Health
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.job import Job
    from supervisor.runtime.supervisor import Supervisor


async def watch_health(supervisor: Supervisor, health: Health, job_spec: JobSpec, job: Job, felt: Callable[[bool], None]) -> NoReturn:
    """Ask every ``interval_sec`` until cancelled; ``felt`` hears of every change. A paused service is not asked."""
    condition = Condition(up_since_ns=now_ns())
    while True:
        await asyncio.sleep(health.interval_sec)
        if job.state == JobState.PAUSED:
            continue
        good = await ask(supervisor, health.check, job_spec, health.timeout_sec)
        if job.state == JobState.PAUSED:  # paused meanwhile: its silence says nothing
            continue
        before, condition = condition.healthy, observe(health, condition, good, now_ns())
        if condition.healthy is not None and condition.healthy != before:
            felt(condition.healthy)
