# SPDX-License-Identifier: Apache-2.0
"""One-way messages from one process to another: 64 bytes, 64 KiB, 16 MiB."""

from __future__ import annotations

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed

LIMIT = "C ring, copy in and out"
#: Bytes of a message, messages of a quick contender, bytes of the ring.
SMALL = (64, 4_000_000, 1 << 20)
MEDIUM = (65536, 60_000, 1 << 20)
LARGE = (16 << 20, 150, 64 << 20)
SLOW = "multiprocessing.Queue"
KEYS = {"rate": Better.HIGHER, "bytes": Better.HIGHER}


def sections(setting: Setting) -> list[Section]:
    """A queue from Python on both sides, the copies included, against a ring in C that checks nothing."""
    small = _section("64 B", SMALL, setting, slow=60_000)
    small.budgets = (Budget(True, "rate", 3, SLOW), Budget(False, "rate", 2e6))
    medium = _section("64 KiB", MEDIUM, setting, slow=6_000)
    medium.budgets = (
        Budget(True, "bytes", 0.5, LIMIT),
        Budget(True, "bytes", 4, "multiprocessing.Pipe"),
        Budget(False, "bytes", 0.8, LIMIT),
    )
    large = _section("16 MiB", LARGE, setting, slow=30)
    large.budgets = (
        Budget(True, "bytes", 0.5, LIMIT, ours="ours, into one buffer"),
        Budget(True, "bytes", 10, SLOW),
        Budget(False, "bytes", 0.8, LIMIT, ours="ours, into one buffer"),
        Budget(False, "bytes", 0.85, "C memcpy", ours="ours, copied in and looked at"),
    )
    return [small, medium, large]


def _section(title: str, work: tuple[int, int, int], setting: Setting, slow: int) -> Section:
    section = Section(f"messages of {title}", KEYS)
    size, full, capacity = work
    count, fewer = setting.count(full), setting.count(slow)

    def ours(how: str, many: str = count) -> tuple[str, ...]:
        return peer("ours_ring", how, size, many, capacity)

    def zmq() -> tuple[str, ...]:
        installed("zmq")
        return peer("ring_zmq", size, setting.count(max(30, min(full, slow * 5))))

    section.add(LIMIT, lambda: (c_program("ring"), "ring", str(size), count, str(capacity)), Role.LIMIT)
    section.add("C memcpy", lambda: (c_program("ring"), "memcpy", str(size), count, str(capacity)), Role.PEER)
    section.add("ours", lambda: ours("many"), Role.OURS)
    section.add("ours, one call each", lambda: ours("one", setting.count(max(30, min(full, 1_000_000)))), Role.OURS)
    section.add("ours, into one buffer", lambda: ours("into", setting.count(max(30, min(full, 1_000_000)))), Role.OURS)
    if size >= 1 << 20:
        section.add("ours, copied in and looked at", lambda: ours("view"), Role.OURS)
    section.add(SLOW, lambda: peer("ring_multiprocessing", "queue", size, fewer))
    section.add("multiprocessing.Pipe", lambda: peer("ring_multiprocessing", "pipe", size, fewer))
    section.add("multiprocessing.shared_memory", lambda: peer("ring_multiprocessing", "shared", size, fewer))
    section.add("pyzmq", zmq)
    return section
