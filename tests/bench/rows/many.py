# SPDX-License-Identifier: Apache-2.0
"""Thousands of live children: what each costs the supervisor, and whether it sleeps when nothing happens."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.build import c_program, tokio_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed, pidfd_watcher, threaded_watcher

IDLE_SECONDS = 5
#: Beyond this a thread for each child says nothing new.
MOST_THREADS = 4000
KEYS = dict.fromkeys(("start", "memory", "fds", "idle_cpu", "wakeups", "stop"), Better.LOWER)
C = "C, pidfd + epoll"
BUDGETS = (
    Budget(True, "memory", 6),
    Budget(True, "fds", 2.01),
    Budget(True, "start", 1.5, C),
    Budget(True, "wakeups", 0),
    Budget(False, "memory", 3),
)


def sections(setting: Setting) -> list[Section]:
    """One table for each key."""
    count, idle = setting.many, 2 if setting.quick else IDLE_SECONDS
    section = Section(f"{count} live children", KEYS, BUDGETS)
    command = ("/bin/sleep", "3600")

    def asyncio_peer(mode: str, check: Callable[[], None] | None = None) -> Callable[[], tuple[str, ...]]:
        def make() -> tuple[str, ...]:
            if check is not None:
                check()
            return peer("asyncio_many", mode, count, idle, *command)

        return make

    section.add(C, lambda: (c_program("many"), str(count), str(idle), *command), Role.LIMIT)
    section.add("ours", lambda: peer("ours_many", count, idle, *command), Role.OURS)
    section.add("tokio", lambda: (tokio_program(), "many", str(count), str(idle), *command))
    if count <= MOST_THREADS:
        section.add("asyncio", asyncio_peer("default"))
        section.add("asyncio, threaded watcher", asyncio_peer("threaded", threaded_watcher))
    else:
        section.missing["asyncio, threaded watcher"] = f"{count} threads prove nothing new"
    section.add("asyncio, pidfd watcher", asyncio_peer("pidfd", pidfd_watcher))
    section.add("uvloop", asyncio_peer("uvloop", lambda: installed("uvloop")))
    return [section]
