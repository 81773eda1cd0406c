# SPDX-License-Identifier: Apache-2.0
"""The same spawn into a fresh cgroup for each job, and without."""

from __future__ import annotations

from tests.bench.build import c_program
from tests.bench.model import Budget, Role, Section, Setting, peer
from tests.bench.rows.cgroup_place import cgroup_place
from tests.bench.rows.spawn import IN_FLIGHT, KEYS

#: "At most 1.25 x the time" as a rate.
BUDGETS = (
    Budget(True, "rate", 1 / 1.25, "ours, no cgroup", ours="ours, cgroup"),
    Budget(False, "rate", 1 / 1.15, "ours, no cgroup", ours="ours, cgroup"),
)


def sections(setting: Setting) -> list[Section]:
    """One table; without a cgroup our jobs' trees are held by a helper process each, which costs more."""
    section = Section("spawn of /bin/true into a fresh cgroup", KEYS, BUDGETS)
    count = setting.count(1500)

    def c(cgroup: bool) -> tuple[str, ...]:
        return (c_program("spawn"), "2", str(IN_FLIGHT), count, cgroup_place() if cgroup else "-", "0", "/bin/true")

    def ours() -> tuple[str, ...]:
        return peer("ours_spawn", "plain", IN_FLIGHT, count, "/bin/true")

    def ours_in_cgroup() -> tuple[str, ...]:
        cgroup_place()
        return ours()

    section.add("C, no cgroup", lambda: c(False), Role.LIMIT)
    section.add("C, cgroup", lambda: c(True))
    section.add("ours, cgroup", ours_in_cgroup, Role.OURS)
    section.add("ours, no cgroup", ours, Role.OURS, RINGFENCE_CGROUP="none")
    return [section]
