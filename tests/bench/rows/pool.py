# SPDX-License-Identifier: Apache-2.0
"""Tasks that do nothing in pools of two warm workers, and a fresh worker with numpy."""

from __future__ import annotations

from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed

EXECUTOR = "concurrent.futures.ProcessPoolExecutor"
MP = "multiprocessing.Pool.map, chunks of 1"


def sections(setting: Setting) -> list[Section]:
    """One submission each, a map, one at a time; and the start of a worker."""
    single = Section("2 workers, one submission for each task", {"rate": Better.HIGHER})
    single.budgets = (Budget(True, "rate", 2.5, EXECUTOR), Budget(False, "rate", 4, EXECUTOR))
    single.add("ours", lambda: peer("ours_pool", "submit", setting.count(20_000)), Role.OURS)
    single.add("ours, 16 coroutines in run()", lambda: peer("ours_pool", "run", setting.count(20_000)), Role.OURS)
    single.add("ours, executor from a thread", lambda: peer("ours_pool", "executor", setting.count(20_000)), Role.OURS)
    _peers(single, "submit", setting.count(8_000), ("executor", "loky", "pebble", "joblib"))

    many = Section("2 workers, a map", {"rate": Better.HIGHER})
    many.budgets = (Budget(True, "rate", 1.5, MP), Budget(False, "rate", 5, MP))
    many.add("ours", lambda: peer("ours_pool", "map", setting.count(60_000)), Role.OURS)
    many.add(MP, lambda: peer("pool_others", "mp", "map", setting.count(30_000)))
    many.add(EXECUTOR, lambda: peer("pool_others", "executor", "map", setting.count(8_000)))

    trip = Section("one task at a time", {"p50": Better.LOWER, "p99": Better.LOWER})
    trip.budgets = (Budget(True, "p50", 150), Budget(False, "p50", 80))
    trip.add("ours", lambda: peer("ours_pool", "trip", setting.count(5_000)), Role.OURS)
    trip.add("multiprocessing.Pool.apply", lambda: peer("pool_others", "mp", "trip", setting.count(5_000)))
    _peers(trip, "trip", setting.count(2_000), ("executor", "loky", "pebble"))

    fresh = Section("a fresh worker with numpy, to its first answer", {"fresh_p50": Better.LOWER, "fresh_least": Better.LOWER})
    fresh.budgets = (Budget(True, "fresh_p50", 3, ours="ours, preload"), Budget(False, "fresh_p50", 1.5, ours="ours, preload"))
    fresh.add("ours, preload", lambda: _with_numpy("ours_pool", "fresh", setting), Role.OURS)
    fresh.add("multiprocessing, forkserver with preload", lambda: _with_numpy("pool_others", "forkserver", "fresh", setting))
    fresh.add("multiprocessing, fork", lambda: _with_numpy("pool_others", "fork", "fresh", setting))
    return [single, many, trip, fresh]


def _with_numpy(*words: object) -> tuple[str, ...]:
    installed("numpy")
    *rest, setting = words
    assert isinstance(setting, Setting)
    return peer(str(rest[0]), *rest[1:], setting.count(100))


def _peers(section: Section, how: str, count: str, names: tuple[str, ...]) -> None:
    for name in names:
        package = {"executor": "concurrent.futures"}.get(name, name)

        def make(name: str = name, package: str = package) -> tuple[str, ...]:
            installed(package)
            return peer("pool_others", name, how, count)

        section.add(EXECUTOR if name == "executor" else name, make)
