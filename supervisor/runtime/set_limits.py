# SPDX-License-Identifier: Apache-2.0
"""Change the limits of a running job: decide, act on a thread of its own, then tell."""

from __future__ import annotations

import asyncio

from supervisor.errors import ClosedError, ConfigError
from supervisor.kernel.relimit import apply_limits
from supervisor.model.limits import Limits
from supervisor.model.relimit import relimit
from supervisor.model.spelling import nearest
from supervisor.model.state import JobState
from supervisor.model.value import field_names
from supervisor.runtime.finished import finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from supervisor.model.relimit import Relimit
    from supervisor.runtime.job import Job


async def set_limits(job: Job, limits: Limits | None, given: Mapping[str, Any]) -> Mapping[str, str]:
    """See :meth:`Job.set_limits`. One change of a job at a time: a second waits for the first."""
    wanted = wanted_limits(limits, given)
    async with job.changing():
        await job.settled()
        change = _decide(job, wanted)
        execution = job._execution
        execution.changing = True
        try:
            acting = asyncio.get_running_loop().run_in_executor(None, _act, job, change)
            cancelled = await finished(acting)
            changed = acting.exception() is None and job.limits_changed(change)  # the exception is raised below, where the caller waits
        finally:
            job.change_over()
        if cancelled is not None:
            raise cancelled
        acting.result()
        if not changed:
            raise ClosedError(f"job {job.id} has ended while its limits were changed")
    return change.enforcement


def wanted_limits(limits: Limits | None, given: Mapping[str, Any]) -> Limits:
    """Limits that are given as one value or by name; raises :class:`ConfigError`, with a suggestion for a misspelt name."""
    if limits is not None:
        if given:
            raise ConfigError("limits: give either one Limits or names, not both")
        return limits
    known = field_names(Limits)
    unknown = [f"{name}: is not a limit{nearest(name, known)}" for name in given if name not in known]
    if unknown:
        raise ConfigError(*unknown)
    return Limits(**given)


def _decide(job: Job, wanted: Limits) -> Relimit:
    if job.state not in (JobState.RUNNING, JobState.PAUSED):
        raise ClosedError(f"job {job.id} is {job.state}: limits can be changed while it runs or is paused")
    execution = job._execution
    return relimit(execution.spec, execution.plan, execution.host, wanted)


def _act(job: Job, change: Relimit) -> None:
    """On a thread: a lower memory limit makes the writer reclaim."""
    execution = job._execution
    tree = execution.tree
    if tree is not None:
        cgroup = tree.cgroup
        apply_limits(tree, execution.pid, cgroup, change.writes, change.rlimits)
