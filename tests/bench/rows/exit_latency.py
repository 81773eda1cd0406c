# SPDX-License-Identifier: Apache-2.0
"""A sleeping child is told to exit: how long until the waiting code runs."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.build import c_program, exit_child, tokio_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed, pidfd_watcher, threaded_watcher

KEYS = {"exit_p50": Better.LOWER, "exit_p99": Better.LOWER, "told_p50": Better.LOWER, "told_p99": Better.LOWER}
BUDGETS = (
    Budget(True, "exit_p50", 1.5, "C, pidfd + epoll"),
    Budget(True, "exit_p50", 1.0, "tokio"),
    Budget(False, "exit_p50", 1.2, "C, pidfd + epoll"),
    Budget(True, "exit_p99", 1.0, "tokio"),
    Budget(False, "exit_p99", 1.3, "C, pidfd + epoll"),
)


def sections(setting: Setting) -> list[Section]:
    """One table for each of the times from the child's last stamp (exit) and from the parent's word (told)."""
    section = Section("exit to the line after the wait", KEYS, BUDGETS)
    count = setting.count(300)

    def python(mode: str, check: Callable[[], None] | None = None) -> Callable[[], tuple[str, ...]]:
        def make() -> tuple[str, ...]:
            if check is not None:
                check()
            return peer("trio_exit" if mode == "trio" else "asyncio_exit", *([] if mode == "trio" else [mode]), count, exit_child())

        return make

    section.add("C, pidfd + epoll", lambda: (c_program("exit_latency"), count, exit_child()), Role.LIMIT)
    section.add("ours", lambda: peer("ours_exit", "async", count, exit_child()), Role.OURS)
    section.add("ours, run()", lambda: peer("ours_exit", "sync", count, exit_child()), Role.OURS)
    section.add("tokio", lambda: (tokio_program(), "exit", count, exit_child()))
    section.add("asyncio", python("default"))
    section.add("asyncio, pidfd watcher", python("pidfd", pidfd_watcher))
    section.add("asyncio, threaded watcher", python("threaded", threaded_watcher))
    section.add("uvloop", python("uvloop", lambda: installed("uvloop")))
    section.add("trio", python("trio", lambda: installed("trio")))
    return [section]
