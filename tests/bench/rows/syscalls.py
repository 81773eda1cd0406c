# SPDX-License-Identifier: Apache-2.0
"""What a system call filter costs: a call that is allowed, one whose arguments are looked at, one that is denied, and a start."""

from __future__ import annotations

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer

KEYS = dict.fromkeys(("plain", "checked", "denied", "start", "supervisor"), Better.LOWER)
BUDGETS = (
    Budget(True, "plain", 1.25, "C, no filter"),
    Budget(True, "checked", 2.0, "C, no filter"),
)
DENIED = 900  # below what is answered at all, see kernel/denials.py


def sections(setting: Setting) -> list[Section]:
    """One table: the same program without a filter and under two presets."""
    section = Section("one system call", KEYS, BUDGETS)
    count, jobs = setting.count(2_000_000), setting.count(300)
    section.add("C, no filter", lambda: (c_program("syscalls"), count, str(DENIED)), Role.LIMIT)
    for preset, role in (("default", Role.OURS), ("compute", Role.OURS), ("none", Role.PEER)):
        name = "ours" if preset == "default" else f"ours, {preset}"
        section.add(name, lambda preset=preset: peer("ours_syscalls", preset, jobs, c_program("syscalls"), count, DENIED), role)  # type: ignore[misc]
    return [section]
