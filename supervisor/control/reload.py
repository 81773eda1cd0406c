# SPDX-License-Identifier: Apache-2.0
"""Reload: what a changed policy means for a job that runs: which limits move now, and what needs a new job.

A pure decision. Acting on it is ``Job.set_limits``'s part.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.enforce import CGROUP_FILES, PROTECTIONS
from supervisor.model.limit_kinds import LIMITS, DeviceLimit
from supervisor.model.limits import show_limit, tighten
from supervisor.model.relative import resolve_relative
from supervisor.model.units import INFINITY
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from supervisor.model.host import Host
    from supervisor.model.limits import Limits
    from supervisor.model.policy.policy import Policy

#: Limits that are ours to count: a new value holds from the next decision on.
TIMERS: Final = ("cpu_time_max", "wall_time_max", "idle_time_max")
#: What a limit becomes when a policy no longer says it.
_UNSAID: Final = {"cpu_weight": "100", "io_weight": "100", "cpu_quota_period": "100ms", **dict.fromkeys(PROTECTIONS, "0")}
_NEEDS_A_JOB: Final = {
    "output_max": "is built into the pipes of the start",
    "disk_max": "is the size of file systems that were made at the start",
}
_INHERITED: Final = "was inherited by every process at its start, and no call changes a whole tree at once"


@value
class Deferred:
    """A key that a running job keeps as it is, and why."""

    key: str
    reason: str


@value
class Reload:
    """``apply``: limits for ``Job.set_limits(**apply)``, as texts. ``deferred``: what holds for new jobs only.
    ``notes``: what the change may do to the job."""

    apply: Mapping[str, Any] = {}
    deferred: tuple[Deferred, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apply or self.deferred)


def decide_reload(before: Policy, after: Policy, own: Limits, host: Host) -> Reload:
    """What the change from ``before`` to ``after`` means for a job started under ``before`` with limits ``own`` besides.

    Raises :class:`ConfigError` when the new policy and the job's own limits exclude each other.
    """
    was, now = _amounts(tighten(before.limits, own), host), _amounts(tighten(after.limits, own), host)
    apply: dict[str, Any] = {}
    deferred, notes = [], []
    for name in LIMITS:
        old, new = was.get(name), now.get(name)
        if old == new:
            continue
        reason = _why_not(name, old, new, host)
        if reason:
            deferred.append(Deferred(key=name, reason=reason))
            continue
        apply[name] = _spelled(name, old, new)
        notes += _note(name, old, new)
    if before.sandbox != after.sandbox:
        deferred.append(Deferred(key="sandbox", reason="is built before a job starts"))
    if before.best_effort != after.best_effort:
        deferred.append(Deferred(key="best_effort", reason="is asked when a job starts"))
    return Reload(apply=apply, deferred=tuple(deferred), notes=tuple(notes))


def try_reload(before: Policy, after: Policy, own: Limits, host: Host) -> Reload:
    """The same; a conflict with the job's own limits leaves the job as it is and is the reason."""
    try:
        return decide_reload(before, after, own, host)
    except ConfigError as error:
        return Reload(deferred=tuple([Deferred(key=text.partition(":")[0], reason=text.partition(": ")[2]) for text in error.problems]))


def _amounts(limits: Limits, host: Host) -> dict[str, Any]:
    """What the limits come to on the host, the ban on swap that a memory cap implies included."""
    given = resolve_relative(limits, host).given()
    if given.get("memory_max", INFINITY) != INFINITY and host.cgroup is not None and host.cgroup.has_swap_max:
        given.setdefault("memory_swap_max", 0)
    return given


def _why_not(name: str, old: Any, new: Any, host: Host) -> str:
    """The reason why a running job keeps its old value; empty when it need not."""
    if name in TIMERS:
        return ""
    if name in _NEEDS_A_JOB:
        return _NEEDS_A_JOB[name]
    if LIMITS[name].rlimit is not None:
        return _INHERITED
    if LIMITS[name].unit == "cpus" and new is None:
        return "cannot be lifted without knowing which processors the job would have had"
    controller = CGROUP_FILES[name][0]
    if host.cgroup is None or controller not in host.cgroup.controllers:
        return f"is not held by a cgroup here (no controller {controller!r})"
    if name == "memory_swap_max" and not host.cgroup.has_swap_max:
        return "is not accounted by this kernel"
    return ""


def _spelled(name: str, old: Any, new: Any) -> Any:
    if LIMITS[name].unit == "devices":
        limits = {limit.path: limit for limit in new or ()}
        lifted = [DeviceLimit(path=limit.path, amount=INFINITY) for limit in old or () if limit.path not in limits]
        return [str(limit) for limit in (*limits.values(), *lifted)]
    return _UNSAID.get(name, "infinity") if new is None else show_limit(name, new)


def _note(name: str, old: Any, new: Any) -> list[str]:
    if name == "memory_max" and _lower(old, new):
        return ["memory_max: what the job uses beyond the new value is reclaimed at once; what cannot be reclaimed ends it"]
    if name == "tasks_max" and _lower(old, new):
        return ["tasks_max: tasks beyond the new value stay, but no new one starts until there is room"]
    if name in TIMERS and _lower(old, new):
        return [f"{name}: a job that is past the new value ends at once"]
    if name == "cpu_time_max" and old is not None and old != INFINITY:
        backstop = 2 * -(-int(old) // 1_000_000_000) + 1
        if new is None or new > backstop * 1_000_000_000:
            return [f"cpu_time_max: a single process still ends at {backstop} s of its own, the backstop (RLIMIT_CPU) of its start"]
    return []


def _lower(old: Any, new: Any) -> bool:
    return new is not None and (old is None or new < old)
