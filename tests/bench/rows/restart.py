# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of a service to the first line of its replacement."""

from __future__ import annotations

import shutil

from tests.bench.build import c_program, restart_child
from tests.bench.model import Better, Budget, NotHere, Role, Section, Setting, peer

KEYS = dict.fromkeys(("restart_p50", "restart_p99", "restart_max"), Better.LOWER)
BUDGETS = (
    Budget(True, "restart_p50", 13),
    Budget(True, "restart_p50", 1.0, "runit"),
    Budget(True, "restart_p99", 100, ours="ours, beside 300 services"),
    Budget(False, "restart_p50", 5),
)
#: Whose program each contender is; each must be on PATH. supervisord shares our import name: give it a virtual environment of its own.
PROGRAMS = {"runit": "runsv", "s6": "s6-supervise", "supervisord": "supervisord", "circus": "circusd"}


def sections(setting: Setting) -> list[Section]:
    """One table; a trial takes more than a second, because some restart only after that without a pause."""
    section = Section("killed to the replacement's first line", KEYS, BUDGETS, timeout=300)
    count = setting.count(20)
    section.add("C, posix_spawn + waitpid", lambda: peer("restart", "c", count, c_program("restart"), restart_child()), Role.LIMIT)
    section.add("ours", lambda: peer("restart", "ours", count, restart_child()), Role.OURS)
    section.add("ours, beside 300 services", lambda: peer("restart", "ours-300", count, restart_child()), Role.OURS)
    for name, program in PROGRAMS.items():
        section.add(name, lambda name=name, program=program: _other(name, program, count))  # type: ignore[misc]
    return [section]


def _other(name: str, program: str, count: str) -> tuple[str, ...]:
    if shutil.which(program) is None:
        raise NotHere(f"{program} is not on PATH")
    return peer("restart", name, count, restart_child())
