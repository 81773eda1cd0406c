# SPDX-License-Identifier: Apache-2.0
"""Reload: what a changed policy means for a job that runs: which limits move now, and what needs a new job.

A pure decision. For each limit it asks what ``Job.set_limits`` itself would decide (:mod:`supervisor.model.relimit`),
so the two cannot disagree about what this host can do.
"""

from __future__ import annotations

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.enforce import PROTECTIONS, enforce
from supervisor.model.limit_kinds import LIMITS, DeviceLimit, Percent
from supervisor.model.limits import Limits, tighten
from supervisor.model.relative import resolve_relative
from supervisor.model.relimit import relimit
from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.host import Host
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.policy.policy import Policy
    from supervisor.model.spec import JobSpec

TIMERS: Final = ("cpu_time_max", "wall_time_max", "idle_time_max")
#: What a limit becomes when a policy no longer says it, where that is not infinity.
_UNSAID: Final = {"cpu_weight": 100, "io_weight": 100, "cpu_quota_period": 100_000_000, **dict.fromkeys(PROTECTIONS, 0)}


@value
class Running:
    """A job as it stands: its specification and plan by now, the policy it was started under, and the limits it has besides."""

    spec: JobSpec
    plan: LaunchPlan
    host: Host
    policy: Policy
    own: Limits = Limits()


@value
class Deferred:
    """A key that a running job keeps as it is, and why."""

    key: str
    reason: str


@value
class Reload:
    """``apply``: what to give to ``Job.set_limits``. ``deferred``: what holds for new jobs only. ``notes``: what may come of it."""

    apply: Limits = Limits()
    deferred: tuple[Deferred, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apply.given() or self.deferred)


def decide_reload(job: Running, after: Policy) -> Reload:
    """What ``after``, the policy as it is now, means for a job that was started under ``job.policy``. Total."""
    try:
        wanted = _amounts(tighten(after.limits, job.own), job.host)
    except ConfigError as error:  # the policy and the job's own limits exclude each other: the job keeps all it has
        return Reload(deferred=tuple([Deferred(key=text.partition(":")[0], reason=text.partition(": ")[2]) for text in error.problems]))
    current = job.plan.limits.given()
    apply: dict[str, Any] = {}
    deferred, notes = [], []
    for name in LIMITS:
        old, new = current.get(name), wanted.get(name)
        if old == new or (new is None and old == _UNSAID.get(name, INFINITY)):
            continue
        amount = _amount(name, old, new)
        reason = _for_new_jobs(name, new) or _refusal(name, amount, job)
        if reason:
            deferred.append(Deferred(key=name, reason=reason))
            continue
        apply[name] = amount
        notes += _notes(name, old, amount)
    if job.policy.sandbox != after.sandbox:
        deferred.append(Deferred(key="sandbox", reason="is built before a job starts"))
    if job.policy.best_effort != after.best_effort:
        deferred.append(Deferred(key="best_effort", reason="is asked when a job starts"))
    return Reload(apply=replace(Limits(), **apply), deferred=tuple(deferred), notes=tuple(notes))


def _amounts(limits: Limits, host: Host) -> dict[str, Any]:
    """What the limits come to on the host, the ban on swap that a memory cap implies included."""
    given = resolve_relative(limits, host).given()
    accounted = host.cgroup is not None and "memory" in host.cgroup.controllers and host.cgroup.has_swap_max
    if given.get("memory_max", INFINITY) != INFINITY and accounted:
        given.setdefault("memory_swap_max", 0)
    return given


def _amount(name: str, old: Any, new: Any) -> Any:
    """The value to set; one that is no longer said is lifted, a device that is no longer named, too."""
    if LIMITS[name].unit == "devices":
        limits = {limit.path: limit for limit in new or ()}
        lifted = [DeviceLimit(path=limit.path, amount=INFINITY) for limit in old or () if limit.path not in limits]
        return (*limits.values(), *lifted)
    return _UNSAID.get(name, INFINITY) if new is None else new


def _for_new_jobs(name: str, new: Any) -> str:
    """Why no running job is given this value, whatever the host; empty when it may be."""
    if name == "disk_max":
        return "is the size of file systems that were made at the start"
    if new is None and LIMITS[name].rlimit is not None:
        return "cannot be lifted: what the job would have inherited is not known any more"
    if new is None and LIMITS[name].unit == "cpus":
        return "cannot be lifted: which processors the job would have had is not known any more"
    return ""


def _refusal(name: str, amount: Any, job: Running) -> str:
    """Why this change of this job is refused here; empty when it is not."""
    try:
        change = relimit(job.spec, job.plan, job.host, replace(Limits(), **{name: amount}))
    except UnsupportedError as error:
        return error.missing
    except ConfigError as error:
        return "; ".join(error.problems)
    if change.plan.enforcement.get(name, "").startswith("none (best effort"):
        return "is not enforced on this host (best effort)"
    if not job.host.capable_resource:
        before = enforce(job.spec, job.host).rlimits
        for number, limit in change.rlimits.items():
            hard = before[number].hard if number in before else job.host.hard_rlimits.get(number, INFINITY)
            if limit.hard > hard:
                return "would raise a hard rlimit of running processes, which needs CAP_SYS_RESOURCE"
    return ""


def _notes(name: str, old: Any, new: Any) -> list[str]:
    if not _lower(old, new):
        return []
    if name == "memory_max":
        return ["memory_max: what the job uses beyond the new value is reclaimed at once; what cannot be reclaimed ends it"]
    if name == "tasks_max":
        return ["tasks_max: tasks beyond the new value stay, but no new one starts until there is room"]
    return [f"{name}: a job that is past the new value ends at once"] if name in (*TIMERS, "output_max") else []


def _lower(old: Any, new: Any) -> bool:
    if old is None or isinstance(new, (tuple, Percent)):
        return old is None
    return isinstance(new, (int, float)) and bool(new < old)
