# SPDX-License-Identifier: Apache-2.0
"""The same spawn with an empty stdin and with stdout and stderr collected."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.build import c_program, tokio_program
from tests.bench.model import Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed, pidfd_watcher, threaded_watcher
from tests.bench.rows.spawn import IN_FLIGHT, KEYS

BUDGETS = (Budget(True, "rate", 1.1, "tokio"), Budget(False, "rate", 1.3, "tokio"))


def sections(setting: Setting) -> list[Section]:
    """One table."""
    section = Section("spawn of /bin/true, pipes collected", KEYS, BUDGETS)
    count, fewer = setting.count(1500), setting.count(400)

    def asyncio_peer(mode: str, check: Callable[[], None] | None = None) -> Callable[[], tuple[str, ...]]:
        def make() -> tuple[str, ...]:
            if check is not None:
                check()
            return peer("asyncio_spawn", f"{mode}-pipes", IN_FLIGHT, fewer, "/bin/true")

        return make

    section.add("C, 2 threads", lambda: (c_program("spawn"), "2", str(IN_FLIGHT), count, "-", "1", "/bin/true"), Role.LIMIT)
    section.add("C, 1 thread", lambda: (c_program("spawn"), "1", str(IN_FLIGHT), count, "-", "1", "/bin/true"))
    section.add("ours", lambda: peer("ours_spawn", "pipes", IN_FLIGHT, count, "/bin/true"), Role.OURS)
    section.add("tokio", lambda: (tokio_program(), "spawn", "pipes", str(IN_FLIGHT), count, "/bin/true"))
    section.add("Popen, one at a time", lambda: peer("popen_spawn", "pipes", fewer, "/bin/true"))
    section.add("asyncio", asyncio_peer("default"))
    section.add("asyncio, pidfd watcher", asyncio_peer("pidfd", pidfd_watcher))
    section.add("asyncio, threaded watcher", asyncio_peer("threaded", threaded_watcher))
    section.add("uvloop", asyncio_peer("uvloop", lambda: installed("uvloop")))
    return [section]
