# SPDX-License-Identifier: Apache-2.0
"""Spawn to reaped, 16 at once, three rlimits: once with /bin/true, once with a child that costs nothing itself."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.build import bare_true, c_program, tokio_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed, pidfd_watcher, threaded_watcher

IN_FLIGHT = 16
KEYS = {"rate": Better.HIGHER, "cpu": Better.LOWER}
BUDGETS = (
    Budget(True, "rate", 1.3, "tokio"),
    Budget(True, "rate", 6, "asyncio + preexec_fn"),
    Budget(False, "rate", 0.85, "C, 2 threads"),
)


def sections(setting: Setting) -> list[Section]:
    """The budgets are held against /bin/true; the bare child shows the spawner alone."""
    usual = _section("spawn of /bin/true", lambda: "/bin/true", setting)
    usual.budgets = BUDGETS
    return [usual, _section("spawn of a bare child", bare_true, setting)]


def _section(title: str, child: Callable[[], str], setting: Setting) -> Section:
    section = Section(title, KEYS)
    count, fewer = setting.count(2000), setting.count(500)

    def asyncio_peer(mode: str, many: str, check: Callable[[], None] | None = None) -> Callable[[], tuple[str, ...]]:
        def make() -> tuple[str, ...]:
            if check is not None:
                check()
            return peer("asyncio_spawn", mode, IN_FLIGHT, many, child())

        return make

    def trio() -> tuple[str, ...]:
        installed("trio")
        return peer("trio_spawn", IN_FLIGHT, fewer, child())

    def tokio(how: str, many: str) -> tuple[str, ...]:
        return (tokio_program(), "spawn", how, str(IN_FLIGHT), many, child())

    def c(threads: int) -> tuple[str, ...]:
        return (c_program("spawn"), str(threads), str(IN_FLIGHT), count, "-", "0", child())

    section.add("C, 2 threads", lambda: c(2), Role.LIMIT)
    section.add("C, 1 thread", lambda: c(1), Role.PEER)
    section.add("ours", lambda: peer("ours_spawn", "plain", IN_FLIGHT, count, child()), Role.OURS)
    section.add("tokio", lambda: tokio("plain", count))
    section.add("tokio + pre_exec", lambda: tokio("rlimits", fewer))
    section.add("Popen, one at a time", lambda: peer("popen_spawn", "plain", fewer, child()))
    section.add("asyncio", asyncio_peer("default", fewer))
    section.add("asyncio, pidfd watcher", asyncio_peer("pidfd", fewer, pidfd_watcher))
    section.add("asyncio, threaded watcher", asyncio_peer("threaded", fewer, threaded_watcher))
    section.add("asyncio + preexec_fn", asyncio_peer("preexec", setting.count(300)))
    section.add("uvloop", asyncio_peer("uvloop", setting.count(300), lambda: installed("uvloop")))
    section.add("trio", trio)
    return section
