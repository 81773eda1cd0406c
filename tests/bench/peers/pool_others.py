# SPDX-License-Identifier: Apache-2.0
"""pool_others executor|mp|loky|pebble|joblib|forkserver|fork submit|map|trip|fresh COUNT: other pools of two workers."""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.peers.pool_tasks import first_answer, nothing, report_fresh, report_tasks, report_trips


def use_executor(submit: Callable[..., Any], results_of_map: Callable[[int], Any], how: str, count: int) -> None:
    """Anything that gives futures."""
    for future in [submit(time.sleep, 0.1) for _ in range(2)] + [submit(nothing, n) for n in range(100)]:
        future.result()
    begun = time.perf_counter()
    if how == "submit":
        for future in [submit(nothing, n) for n in range(count)]:
            future.result()
        report_tasks(count, begun)
    elif how == "map":
        results_of_map(count)
        report_tasks(count, begun)
    else:
        report_trips(trips(lambda: submit(nothing, 1).result(), count))


def trip(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def trips(call: Callable[[], object], count: int) -> list[float]:
    return [trip(call) for _ in range(count)]


def fresh(method: str, count: int) -> None:
    """A process for each task, from a server or a parent that has imported numpy."""
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["numpy", "tests.bench.peers.pool_tasks"])
    else:
        importlib.import_module("numpy")

    def once() -> None:
        ours, theirs = context.Pipe()
        child = context.Process(target=say_first, args=(theirs,))
        child.start()
        ours.recv()
        ends.append(child)

    ends: list[Any] = []
    once()
    taken = []
    for _ in range(count):
        taken.append(trip(once))
        ends.pop().join()
    report_fresh(taken)


def say_first(pipe: Any) -> None:
    pipe.send(first_answer())


def main() -> None:
    """Run the contender."""
    who, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if how == "fresh":
        fresh(who, count)
    elif who == "executor":
        with concurrent.futures.ProcessPoolExecutor(2) as executor:
            use_executor(executor.submit, lambda n: list(executor.map(nothing, range(n))), how, count)
    elif who == "loky":
        executor = importlib.import_module("loky").get_reusable_executor(2)
        use_executor(executor.submit, lambda n: list(executor.map(nothing, range(n))), how, count)
    elif who == "pebble":
        with importlib.import_module("pebble").ProcessPool(2) as pool:
            use_executor(lambda function, *args: pool.schedule(function, args=args), lambda n: None, how, count)
    elif who == "joblib":
        joblib = importlib.import_module("joblib")
        parallel = joblib.Parallel(2, batch_size=1)
        parallel(joblib.delayed(nothing)(n) for n in range(100))
        begun = time.perf_counter()
        parallel(joblib.delayed(nothing)(n) for n in range(count))
        report_tasks(count, begun)
    else:
        with multiprocessing.Pool(2) as workers:
            workers.map(time.sleep, [0.1, 0.1], chunksize=1)
            if how == "trip":
                report_trips(trips(lambda: workers.apply(nothing, (1,)), count))
            else:
                begun = time.perf_counter()
                workers.map(nothing, range(count), chunksize=1)
                report_tasks(count, begun)


if __name__ == "__main__":
    main()
