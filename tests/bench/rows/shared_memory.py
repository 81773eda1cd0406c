# SPDX-License-Identifier: Apache-2.0
"""Blocks of shared memory: made and given back, and copied into, against multiprocessing.shared_memory."""

from __future__ import annotations

from tests.bench.model import Better, Budget, Role, Section, Setting, peer

STANDARD = "multiprocessing.shared_memory"
SIZES = (("64 KiB", 65536, 4000), ("16 MiB", 16 << 20, 1000), ("1 GiB", 1 << 30, 300))


def sections(setting: Setting) -> list[Section]:
    """Making takes the same time whatever the size: pages come when they are touched."""
    return [_section(title, size, setting.count(count)) for title, size, count in SIZES]


def _section(title: str, size: int, count: str) -> Section:
    section = Section(f"a block of {title}", {"make": Better.LOWER, "copy": Better.HIGHER})
    section.budgets = (Budget(False, "make", 1.0, STANDARD),)
    section.add("ours", lambda: peer("ours_shared_memory", "ours", size, count), Role.OURS)
    section.add(STANDARD, lambda: peer("ours_shared_memory", "standard", size, count))
    return section
