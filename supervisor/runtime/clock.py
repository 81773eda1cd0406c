# SPDX-License-Identifier: Apache-2.0
"""Clock: everything about one job that falls due at a time."""

from __future__ import annotations

from supervisor.kernel import native
from supervisor.model.units import INFINITY
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Final

    from supervisor.control.watch import Watch
    from supervisor.kernel.tree import Tree
    from supervisor.model.limits import Limits
    from supervisor.model.plan import LaunchPlan
    from supervisor.runtime.sampler import Sampler

#: After SIGKILL to the whole tree: how long its last task may take to die (a task stuck in the kernel never does).
UNREAPED_PATIENCE_NS: Final = 5_000_000_000
#: The same for an init helper that was told to end its tree, before it counts as lost: a job may have stopped it.
HELPER_PATIENCE_NS: Final = 4_000_000_000


class Clock:
    """Owns a job's due times: its limits of time, its samples, the end of a grace period, the end of our patience.

    ``kill_ns``: when a polite stop turns into a kill; ``give_up_ns``: when a killed tree counts as stuck.
    """

    __slots__ = ("_decide", "_sampler", "_watch", "give_up_ns", "kill_ns", "paused")

    def __init__(self, plan: LaunchPlan) -> None:
        self._watch: Watch | None = None
        self._decide: ModuleType  # control.watch, loaded once a job has limits of time
        self._sampler: Sampler | None = None
        self.kill_ns: int | None = None
        self.give_up_ns: int | None = None
        self.paused = False
        if plan.sampled:
            from supervisor.runtime.sampler import Sampler  # psutil is loaded now, not while the job runs

            self._sampler = Sampler(plan)

    def start(self, plan: LaunchPlan, processors: int, now_ns: int) -> None:
        """The job runs from now on."""
        limits = plan.limits
        if (limits.cpu_time_max, limits.wall_time_max, limits.idle_time_max) != (None, None, None):
            from supervisor.control import watch

            self._decide = watch
            self._watch = watch.watch_for(limits, processors, now_ns)
        if self._sampler is not None:
            self._sampler.start(now_ns)

    def relimit(self, plan: LaunchPlan, processors: int, started_ns: int, paused_ns: int) -> None:
        """The limits of time and the sampled ones are the plan's from now on; time already used counts."""
        if self._sampler is not None:
            self._sampler.relimit(plan)
        self.retime(plan.limits, processors, started_ns, paused_ns)

    def retime(self, limits: Limits, processors: int, started_ns: int, paused_ns: int) -> None:
        """These limits of time count from now on; time already used counts."""
        now_ns = native.now_ns()
        if self._watch is not None:
            self._watch = self._decide.relimited(self._watch, limits)
            return
        from supervisor.control import watch

        self._decide = watch
        made = watch.watch_for(limits, processors, started_ns)
        if made is not None:
            made = replace(made, paused_ns=paused_ns)
            self._watch = watch.paused(made, now_ns) if self.paused else made

    def ended(self) -> None:
        """The main process is over: no limit can be broken any more, and no grace runs."""
        self._watch = self._sampler = self.kill_ns = None

    def stop(self) -> None:
        """Everything is over."""
        self.ended()
        self.give_up_ns = None

    def kill_by(self, due_ns: int) -> None:
        """A grace period ends then, unless an earlier one does."""
        self.kill_ns = due_ns if self.kill_ns is None else min(due_ns, self.kill_ns)

    def killed(self, now_ns: int, patience_ns: int = UNREAPED_PATIENCE_NS) -> None:
        """The tree was sent SIGKILL; the first time counts."""
        if self.give_up_ns is None:
            self.give_up_ns = now_ns + patience_ns

    def pause(self, now_ns: int) -> None:
        self.paused = True
        if self._watch is not None:
            self._watch = self._decide.paused(self._watch, now_ns)

    def resume(self, now_ns: int) -> None:
        self.paused = False
        if self._watch is not None:
            self._watch = self._decide.resumed(self._watch, now_ns)

    @property
    def wall_due_ns(self) -> int | None:
        """When the wall-clock limit is reached, None without one or in a pause."""
        watch = self._watch
        if watch is None or watch.wall_max_ns == INFINITY or watch.paused_at is not None:
            return None
        return watch.started_ns + watch.paused_ns + int(watch.wall_max_ns)

    @property
    def due_ns(self) -> int | None:
        """The next time at which something is due, or None."""
        times = [time for time in (self.kill_ns, self.give_up_ns) if time is not None]
        if self._watch is not None and (due := self._decide.next_look(self._watch, 0)) is not None:
            times.append(due)
        if self._sampler is not None and self._sampler.due_ns is not None and not self.paused:
            times.append(self._sampler.due_ns)
        return min(times) if times else None

    def look(self, now_ns: int, tree: Tree, output_ns: int) -> tuple[str | None, bool]:
        """Compare with the limits that are due: the name of the one that is reached, and whether it is one of time."""
        if self._watch is not None and (due := self._decide.next_look(self._watch, 0)) is not None and now_ns >= due:
            cpu_ns = tree.cpu_ns() if self._watch.needs_cpu else None
            self._watch, found = self._decide.look(self._watch, now_ns, cpu_ns, output_ns)
            if found is not None:
                self._watch = None
                return found, True
        sampler = self._sampler
        if sampler is None or sampler.due_ns is None or self.paused or now_ns < sampler.due_ns:
            return None, False
        try:
            found = sampler.look(now_ns, tree.members())
        except OSError:  # no descriptor left to look with: at the next sample, then
            sampler.start(now_ns)
            return None, False
        if found is not None:
            self._sampler = None
        return found, False

    @property
    def peaks(self) -> dict[str, int] | None:
        """The sampler's peaks, kept up to date by it; None without one."""
        return None if self._sampler is None else self._sampler.peaks
