# SPDX-License-Identifier: Apache-2.0
"""Messages between two processes: one way in three sizes, and round trips."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed

KEYS = {"rate": Better.HIGHER, "speed": Better.HIGHER}
TRIP_KEYS = {"p50": Better.LOWER, "p99": Better.LOWER, "rate": Better.HIGHER}
SMALL, MIDDLE, LARGE = 64, 64 << 10, 16 << 20


def sections(setting: Setting) -> list[Section]:
    """A table for each size, one for round trips."""
    return [_small(setting), _middle(setting), _large(setting), _trips(setting)]


def _others(section: Section, size: int, count: str) -> None:
    def zmq() -> tuple[str, ...]:
        installed("zmq")
        return peer("zmq_messages", size, count)

    section.add("bare socket", lambda: peer("socket_messages", "one-way", size, count), Role.LIMIT)
    section.add("mp.Queue", lambda: peer("mp_messages", "queue", size, count))
    section.add("mp.Pipe", lambda: peer("mp_messages", "pipe", size, count))
    section.add("pyzmq", zmq)


def _ours(section: Section, size: int, count: str, modes: dict[str, str]) -> None:
    def command(mode: str) -> Callable[[], tuple[str, ...]]:
        return lambda: peer("ours_messages", mode, size, count)

    for name, mode in modes.items():
        section.add(name, command(mode), Role.OURS)


def _small(setting: Setting) -> Section:
    budgets = (
        Budget(True, "rate", 3, "mp.Queue"),
        Budget(False, "rate", 3, "mp.Queue", "ours, job sends many"),
        Budget(False, "rate", 1, "pyzmq"),
    )
    section = Section("one-way messages of 64 B", KEYS, budgets, timeout=60)
    count = setting.count(200_000)
    _ours(
        section,
        SMALL,
        count,
        {
            "ours": "down-objects",
            "ours, bytes": "down",
            "ours, job sends objects": "up-objects",
            "ours, job sends bytes": "up",
            "ours, job sends many": "up-many",
        },
    )
    section.add("mp.Pipe, objects", lambda: peer("mp_messages", "pipe-objects", SMALL, count))
    _others(section, SMALL, count)
    return section


def _middle(setting: Setting) -> Section:
    budgets = (Budget(True, "speed", 4, "mp.Pipe"), Budget(False, "speed", 8, "mp.Pipe"))
    section = Section("one-way messages of 64 KiB", KEYS, budgets)
    count = setting.count(5_000)
    _ours(section, MIDDLE, count, {"ours": "down", "ours, job sends": "up"})
    _others(section, MIDDLE, count)
    return section


def _large(setting: Setting) -> Section:
    budgets = (Budget(True, "speed", 10, "mp.Queue"), Budget(False, "speed", 100, "mp.Queue", "ours, sealed once"))
    section = Section("one-way messages of 16 MiB", KEYS, budgets)
    count = setting.count(100)
    _ours(
        section,
        LARGE,
        count,
        {"ours": "down", "ours, copied out": "down-copied", "ours, sealed once": "down-sealed", "ours, job sends": "up"},
    )
    _others(section, LARGE, count)
    return section


def _trips(setting: Setting) -> Section:
    budgets = (Budget(True, "p50", 2, "bare socket"),)
    section = Section("round trips of 64 B", TRIP_KEYS, budgets)
    count = setting.count(5_000)
    section.add("bare socket", lambda: peer("socket_messages", "round-trip", SMALL, count), Role.LIMIT)
    _ours(section, SMALL, count, {"ours": "round-trip", "ours, 16 under way": "round-trips-16"})
    section.add("mp.Pipe", lambda: peer("mp_messages", "round-trip", SMALL, count))
    return section
