# SPDX-License-Identifier: Apache-2.0
"""Best-effort limits by sampling the tree with psutil, where the kernel's own mechanism is missing.

What this cannot do is part of its contract: a job that overdraws and ends between two samples is
never seen, and everything a process did before its first sample counts from there. Memory is the
resident set of each process, and only when that is above the limit the proportional set, in which shared
pages count once. The outcome's ``enforcement`` and ``sources`` say "sampled".
"""

from __future__ import annotations

import psutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.plan import LaunchPlan

INTERVAL_NS: Final = 50_000_000


class Sampler:
    """Looks at one job's tree every 50 ms; ``due_ns`` is the next time, ``peaks`` the most seen so far."""

    __slots__ = ("_limits", "_names", "_written", "due_ns", "peaks")

    def __init__(self, plan: LaunchPlan) -> None:
        self._names = plan.sampled
        self._limits = plan.limits
        self._written: dict[int, int] = {}
        self.peaks: dict[str, int] = {}
        self.due_ns: int | None = None

    def relimit(self, plan: LaunchPlan) -> None:
        """The plan's limits count from the next sample on."""
        self._names = plan.sampled
        self._limits = plan.limits

    def start(self, now_ns: int) -> None:
        """The job runs: the first sample is due an interval from now."""
        self.due_ns = now_ns + INTERVAL_NS

    def look(self, now_ns: int, pids: list[int]) -> str | None:
        """Sample these processes; the name of a limit they are above, or None."""
        self.due_ns = now_ns + INTERVAL_NS
        memory = tasks = 0
        for pid in pids:
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    memory += process.memory_info().rss
                    tasks += process.num_threads()
                    if "disk_max" in self._names:
                        self._written[pid] = process.io_counters().write_bytes
            except psutil.Error:
                continue
        if "memory_max" in self._names and memory > self._limits.memory_max:
            memory = _proportional(pids)
        used = {"memory_max": memory, "tasks_max": tasks, "disk_max": sum(self._written.values())}
        for name, amount in used.items():
            self.peaks[name] = max(amount, self.peaks.get(name, 0))
        for name in self._names:
            if used[name] > getattr(self._limits, name):
                return name
        return None


def _proportional(pids: list[int]) -> int:
    """Memory of the processes with shared pages split between those that share them; dearer to read."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.Error:
            continue
    return total
