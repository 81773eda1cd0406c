# SPDX-License-Identifier: Apache-2.0
"""Three hundred services: start, what each costs, idle, stop. The limit is C that only starts and reaps so many children."""

from __future__ import annotations

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer

COUNT = 300
IDLE_SECONDS = 5
KEYS = dict.fromkeys(("start", "memory", "fds", "idle_cpu", "wakeups", "stop"), Better.LOWER)
BUDGETS = (
    Budget(True, "start", 1),
    Budget(True, "memory", 30),
    Budget(True, "fds", 2.01),
    Budget(True, "wakeups", 0),
    Budget(False, "start", 0.5),
    Budget(False, "memory", 10),
)


def sections(setting: Setting) -> list[Section]:
    """One table."""
    idle = 2 if setting.quick else IDLE_SECONDS
    section = Section(f"{COUNT} services", KEYS, BUDGETS)
    command = ("/bin/sleep", "3600")
    section.add("C, pidfd + epoll", lambda: (c_program("many"), str(COUNT), str(idle), *command), Role.LIMIT)
    section.add("ours", lambda: peer("ours_services", COUNT, idle, *command), Role.OURS)
    return [section]
