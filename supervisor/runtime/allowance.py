# SPDX-License-Identifier: Apache-2.0
"""Allowance: what a session may use as a whole, and what is left of it."""

from __future__ import annotations

import asyncio

from supervisor.control.watch import look, next_look, watch_for
from supervisor.errors import ClosedError, UnsupportedError
from supervisor.kernel import native
from supervisor.kernel.session_cgroup import SessionCgroup
from supervisor.model.enforce import SAMPLED, enforce
from supervisor.model.limits import Limits
from supervisor.model.sandbox import STRICT
from supervisor.model.session import SHARED
from supervisor.model.spec import JobSpec
from supervisor.model.units import INFINITY
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.cgroup_root import CgroupRoot
    from supervisor.model.changes import Look
    from supervisor.model.outcome import Outcome
    from supervisor.runtime.supervisor import Supervisor


#: A kill that failed, for want of a descriptor, is tried again.
RETRY_S: Final = 0.01


class Allowance:
    """Owns the session's cgroup, where there is one, and the timer that ends what overdraws the session's time.

    ``each``: limits of the session that this host can hold only command by command. ``spent``: the limit that is used up.
    Raises :class:`UnsupportedError` for what cannot be enforced and is not in ``best_effort``.
    """

    def __init__(self, supervisor: Supervisor, limits: Limits, best_effort: frozenset[str]) -> None:
        self._supervisor = supervisor
        above, host = supervisor.stands_on()
        shared = replace(Limits(), **{name: amount for name, amount in limits.given().items() if name in SHARED})
        decided = enforce(JobSpec(argv=("session",), limits=shared, best_effort=best_effort), host)
        weak = {name for name, words in decided.enforcement.items() if words.startswith(("sampled", "none (best"))}
        self.each = replace(
            Limits(), **{name: amount for name, amount in decided.limits.given().items() if name in weak and name in SAMPLED}
        )
        self.best_effort = best_effort
        times = {name: amount for name in ("cpu_time_max", "wall_time_max") if (amount := getattr(limits, name)) is not None}
        self.enforcement: Mapping[str, str] = {
            **{
                name: f"{words}, command by command" if name in weak and name in SAMPLED else words
                for name, words in decided.enforcement.items()
                if name != "tree"
            },
            **dict.fromkeys(times, "timer, and what is left given to each command"),
            **({"disk_max": "looked at after each command"} if limits.disk_max is not None else {}),
        }
        self._disk_max = limits.disk_max
        self.spent: str | None = None  # the first of them
        self._time_is_spent = False
        self._doomed: list[Cgroup] = []  # kept, and to be killed because the time is spent
        self._finished_cpu_ns = 0
        self._watch = watch_for(replace(Limits(), **times), host.processors_online, native.now_ns())
        self._timer: asyncio.TimerHandle | None = None
        self._why_no_cgroup = host.no_cgroup
        self._cgroup = None if above is None else SessionCgroup(above, f"session-{native.now_ns()}", decided.writes)
        self._arm()

    @property
    def root(self) -> CgroupRoot | None:
        """Where the commands' cgroups are made."""
        return None if self._cgroup is None else self._cgroup.root

    def keep(self, cgroup: Cgroup) -> None:
        """What a command left running stays."""
        assert self._cgroup is not None
        self._cgroup.keep(cgroup)
        if self._time_is_spent:  # between the command's end and this
            self._doomed.append(cgroup)
            self._kill_doomed()
        self._arm()

    def check_keep(self, spec: JobSpec) -> None:
        """Raises :class:`UnsupportedError` where what a command leaves behind cannot be kept."""
        if self._cgroup is None:
            raise UnsupportedError("background='keep'", self._why_no_cgroup or "no cgroup v2 subtree can be used here")
        if spec.sandbox is not None and spec.sandbox.level == STRICT:
            raise UnsupportedError("background='keep'", "a strict sandbox ends with its command; run it to its end in another task")

    def left(self) -> Limits:
        """What the next command may use of the session's time; raises :class:`ClosedError` when a limit is spent."""
        self._look()
        if self.spent is not None:
            raise ClosedError(f"the session's {self.spent} is spent: no further command is started")
        watch = self._watch
        if watch is None:
            return Limits()
        cpu = None if watch.cpu_max_ns == INFINITY else int(watch.cpu_max_ns) - watch.cpu_ns
        wall = None if watch.wall_max_ns == INFINITY else watch.started_ns + int(watch.wall_max_ns) - native.now_ns()
        return replace(Limits(), cpu_time_max=cpu, wall_time_max=None if wall is None else max(1, wall))

    def hits(self) -> tuple[int, int]:
        """How often the session's own memory and tasks limits were met."""
        return (0, 0) if self._cgroup is None else self._cgroup.hits()

    def cpu_ns(self) -> int | None:
        """Processor time of the session so far, what runs included."""
        if self._cgroup is not None:
            return self._cgroup.cpu_ns()
        trees = [job._execution.tree for job in self._supervisor.jobs]
        return self._finished_cpu_ns + sum([tree.cpu_ns() or 0 for tree in trees if tree is not None])

    def began(self) -> None:
        """A command was started."""
        self._arm()

    def ended(self, after: Look, outcome: Outcome) -> int:
        """A command is over: what is spent now? Returns how many commands have left something running."""
        self._finished_cpu_ns += outcome.usage.cpu_ns or 0
        if self._disk_max is not None and sum([seen.size_bytes for seen in after.seen.values()]) > self._disk_max:
            self.spent = self.spent or "disk_max"
        kept = 0 if self._cgroup is None else self._cgroup.prune()
        self._look()
        self._arm()
        return kept

    def _arm(self) -> None:
        """Look again when something can have run out; while nothing runs only the wall clock can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        watch = self._watch
        if watch is not None and self._doomed:
            self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._on_timer)
        if watch is None or self._time_is_spent:
            return
        busy = bool(self._supervisor.jobs) or (self._cgroup is not None and bool(self._cgroup.kept))
        due = next_look(watch if busy else replace(watch, cpu_max_ns=INFINITY), native.now_ns())
        if due is not None:
            delay = max(0, due - native.now_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look()
        self._arm()

    def _look(self) -> None:
        if self._watch is None or self._time_is_spent:
            self._kill_doomed()
            return
        self._watch, found = look(self._watch, native.now_ns(), self.cpu_ns(), 0)
        if found is None:
            return
        self._time_is_spent = True
        self.spent = self.spent or found  # what was kept runs on when the disk is spent, until the time is
        for job in self._supervisor.jobs:
            if job.outcome is None:
                job._execution.reached(found)
                job._settle()
        self._doomed = [] if self._cgroup is None else list(self._cgroup.kept)
        self._kill_doomed()

    def _kill_doomed(self) -> None:
        """Those of them that are still kept; who cannot be killed now is left for the next look."""
        kept = [] if self._cgroup is None else self._cgroup.kept
        doomed, self._doomed = self._doomed, []
        for cgroup in doomed:
            if cgroup in kept:
                try:
                    cgroup.kill()
                except OSError:
                    self._doomed.append(cgroup)

    def close(self) -> None:
        """End what was kept and remove the cgroup; the commands must be over. Blocks for milliseconds."""
        if self._cgroup is not None:
            self._cgroup.close()
            self._cgroup = None

    def stop(self) -> None:
        """No timer any more."""
        self._watch = None
        self._arm()
