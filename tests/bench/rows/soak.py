# SPDX-License-Identifier: Apache-2.0
"""Twenty thousand jobs of mixed fates through one supervisor: nothing may grow."""

from __future__ import annotations

from tests.bench.model import Better, Budget, Role, Section, Setting, peer

#: Fifty bytes a job would show; the allocator's own moods stay below.
MOST_MEMORY_KIB = 1024
COUNTED = ("fds", "threads", "cgroups", "zombies")
HELD = [f"{name}_{moment}" for name in ("memory", *COUNTED) for moment in ("start", "middle", "end", "growth")]
KEYS = {**dict.fromkeys(HELD, Better.LOWER), "rate": Better.HIGHER}
BUDGETS = (Budget(True, "memory_growth", MOST_MEMORY_KIB), *(Budget(True, f"{name}_growth", 0) for name in COUNTED))


def sections(setting: Setting) -> list[Section]:
    """One long round; it warms up by itself."""
    jobs = 2000 if setting.quick else 20000
    section = Section(f"soak of {jobs} jobs", KEYS, BUDGETS, rounds=1, timeout=900)
    section.add("ours", lambda: peer("ours_soak", jobs, 200 if setting.quick else 1000), Role.OURS)
    return [section]
