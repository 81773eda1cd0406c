# SPDX-License-Identifier: Apache-2.0
"""Best-effort limits by sampling the tree with psutil, where the kernel's own mechanism is missing.

What this cannot do is part of its contract: a job that overdraws and ends between two samples is
never seen, memory shared between processes is counted once for each, and everything a process did
before its first sample counts from there. The outcome's ``enforcement`` says "sampled".
"""

from __future__ import annotations

import psutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.plan import LaunchPlan

INTERVAL_NS: Final = 50_000_000


class Sampler:
    """Looks at one job's tree every 50 ms; ``due_ns`` is the next time."""

    __slots__ = ("_limits", "_names", "_written", "due_ns")

    def __init__(self, plan: LaunchPlan, now_ns: int) -> None:
        self._names = plan.sampled
        self._limits = plan.limits
        self._written: dict[int, int] = {}
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
        used = {"memory_max": memory, "tasks_max": tasks, "disk_max": sum(self._written.values())}
        for name in self._names:
            if used[name] > getattr(self._limits, name):
                return name
        return None
