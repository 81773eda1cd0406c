# SPDX-License-Identifier: Apache-2.0
"""Watch: when to look at a running job's time limits, and what was found. Pure.

No fast polling: the next look is computed from what is left. Of processor time, a tree on N
processors can spend at most N seconds a second, so it cannot overdraw before ``left / N``. While b
threads are busy each look takes at least b/N off what is left, down to ``FINEST_NS`` between looks,
which bounds the overdraft to N times that.
"""

from __future__ import annotations

from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.limits import Limits

FINEST_NS: Final = 1_000_000
#: A job that uses less than a hundredth of the time it has is idle, however its timers tick.
IDLE_SHARE: Final = 100
IDLE_LOOKS: Final = 4


@value
class Watch:
    """Time limits and where the job stands; every change makes a new value.

    All times are CLOCK_MONOTONIC nanoseconds; ``processors`` is how many the job can use at once.
    ``paused_at`` is set while the job is paused: wall and idle time stand still then.
    """

    cpu_max_ns: int | float = INFINITY
    wall_max_ns: int | float = INFINITY
    idle_max_ns: int | float = INFINITY
    processors: int = 1
    started_ns: int = 0
    paused_at: int | None = None
    paused_ns: int = 0
    active_ns: int = 0  # last sign of life
    cpu_ns: int = 0  # as last seen
    looked_ns: int = 0

    @property
    def needs_cpu(self) -> bool:
        """A look must bring the tree's processor time along."""
        return self.cpu_max_ns != INFINITY or self.idle_max_ns != INFINITY


def watch_for(limits: Limits, processors: int, now_ns: int) -> Watch | None:
    """The watch of a job that starts now, or None when it has no time limit."""
    if limits.cpu_time_max is None and limits.wall_time_max is None and limits.idle_time_max is None:
        return None
    return Watch(
        cpu_max_ns=limits.cpu_time_max or INFINITY,
        wall_max_ns=limits.wall_time_max or INFINITY,
        idle_max_ns=limits.idle_time_max or INFINITY,
        processors=max(1, processors),
        started_ns=now_ns,
        active_ns=now_ns,
        looked_ns=now_ns,
    )


def next_look(watch: Watch, now_ns: int) -> int | None:
    """When to call :func:`look` next, or None while nothing can happen."""
    if watch.paused_at is not None:
        return None
    times: list[int] = []
    if watch.cpu_max_ns != INFINITY:
        left = int(watch.cpu_max_ns) - watch.cpu_ns
        times.append(watch.looked_ns + max(left // watch.processors, FINEST_NS))
    if watch.wall_max_ns != INFINITY:
        times.append(watch.started_ns + watch.paused_ns + int(watch.wall_max_ns))
    if watch.idle_max_ns != INFINITY:
        idle = int(watch.idle_max_ns)
        times.append(min(watch.active_ns + idle, watch.looked_ns + max(idle // IDLE_LOOKS, FINEST_NS)))
    return max(now_ns, min(times)) if times else None


def look(watch: Watch, now_ns: int, cpu_ns: int | None, output_ns: int) -> tuple[Watch, str | None]:
    """Compare usage with the limits: the new watch, and the name of the limit that is reached or None.

    ``cpu_ns``: processor time of the tree, None when it could not be read; ``output_ns``: when output
    last came, 0 for never.
    """
    if watch.paused_at is not None:
        return watch, None
    cpu = watch.cpu_ns if cpu_ns is None else max(cpu_ns, watch.cpu_ns)
    used, passed = cpu - watch.cpu_ns, now_ns - watch.looked_ns
    active = max(watch.active_ns, output_ns)
    if passed > 0 and used * IDLE_SHARE > passed:
        active = now_ns
    new = replace(watch, cpu_ns=cpu, active_ns=active, looked_ns=now_ns)
    if cpu >= watch.cpu_max_ns:
        return new, "cpu_time_max"
    if now_ns - watch.started_ns - watch.paused_ns >= watch.wall_max_ns:
        return new, "wall_time_max"
    if now_ns - active >= watch.idle_max_ns:
        return new, "idle_time_max"
    return new, None


def paused(watch: Watch, now_ns: int) -> Watch:
    """The clock stops; pausing twice changes nothing."""
    return watch if watch.paused_at is not None else replace(watch, paused_at=now_ns)


def resumed(watch: Watch, now_ns: int) -> Watch:
    """The clock runs on; the pause counts as a sign of life."""
    if watch.paused_at is None:
        return watch
    gap = now_ns - watch.paused_at
    # the time since the last look goes on where it stopped: what was spent before the pause is not seen yet
    return replace(watch, paused_at=None, paused_ns=watch.paused_ns + gap, active_ns=now_ns, looked_ns=watch.looked_ns + gap)


def relimited(watch: Watch, limits: Limits) -> Watch:
    """The same job under changed limits."""
    return replace(
        watch,
        cpu_max_ns=limits.cpu_time_max or INFINITY,
        wall_max_ns=limits.wall_time_max or INFINITY,
        idle_max_ns=limits.idle_time_max or INFINITY,
    )
