# SPDX-License-Identifier: Apache-2.0
"""Thousands of live children: what each costs the supervisor, and whether it sleeps when nothing happens."""

from __future__ import annotations

import resource
from collections.abc import Callable

from tests.bench.build import BARE, c_program, tokio_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed, pidfd_watcher, threaded_watcher

IDLE_SECONDS = 5
#: Beyond this a thread for each child says nothing new, and the children are of a program without a C library.
MOST_THREADS = 4000
#: The row that only waits, and for how long.
IDLE_CHILDREN = 200
LONG_IDLE_SECONDS = 60
#: A child of ours with its cgroup takes two descriptors; so many are for everything else.
FDS_EACH, FDS_BESIDE = 2, 64
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
    """One table for each key; then a minute in which nothing happens."""
    count, idle = min(setting.many, most_children()), 2 if setting.quick else IDLE_SECONDS
    section = Section(f"{count} live children", KEYS, BUDGETS, timeout=120 + count / 20)
    command = ("/bin/sleep", "3600") if count <= MOST_THREADS else (c_program("restart_child", *BARE),)
    if count < setting.many:
        section.missing[f"{setting.many} children"] = f"this machine allows {count}: RLIMIT_NOFILE, pid_max and RLIMIT_NPROC"

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
    return [section, _long_idle(setting)]


def most_children() -> int:
    """How many children one process can have here, at two descriptors each."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        pids = int(file.read())
    by_descriptors = (descriptors - FDS_BESIDE) // FDS_EACH
    return max(1, min(by_descriptors, pids // 2, processes // 2 if processes >= 0 else pids))


def _long_idle(setting: Setting) -> Section:
    seconds = IDLE_SECONDS if setting.quick else LONG_IDLE_SECONDS
    keys = dict.fromkeys(("idle_cpu", "wakeups"), Better.LOWER)
    section = Section(f"{IDLE_CHILDREN} live children, idle for {seconds} s", keys, (Budget(True, "wakeups", 0),), rounds=1, timeout=180)
    section.add(C, lambda: (c_program("many"), str(IDLE_CHILDREN), str(seconds), "/bin/sleep", "3600"), Role.LIMIT)
    section.add("ours", lambda: peer("ours_many", IDLE_CHILDREN, seconds, "/bin/sleep", "3600"), Role.OURS)
    return section
