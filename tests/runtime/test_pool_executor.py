# SPDX-License-Identifier: Apache-2.0
"""The pool as a concurrent.futures.Executor: what CPython's own tests claim of executors, where it applies."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import threading
from collections.abc import Callable
from typing import TypeVar

import pool_tasks
import pytest

from supervisor import ClosedError, ConfigError, JobFailed, Pool
from supervisor.runtime.pool_executor import PoolExecutor

T = TypeVar("T")


async def in_thread(use: Callable[[PoolExecutor], T], processes: int = 2) -> T:
    """Call ``use`` on another thread with the executor of a pool."""
    async with Pool(processes) as pool:
        with futures.ThreadPoolExecutor(1) as threads:
            return await asyncio.get_running_loop().run_in_executor(threads, use, pool.executor())


async def test_submit_and_result() -> None:
    def use(executor: PoolExecutor) -> None:
        assert executor.submit(pow, 2, 8).result() == 256
        assert executor.submit(pool_tasks.add, first=1, second=2).result() == 3
        with pytest.raises(TypeError):
            executor.submit()  # type: ignore[call-arg]

    await in_thread(use)


async def test_map_in_order_lazily_raising_and_timing_out() -> None:
    def use(executor: PoolExecutor) -> None:
        assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
        assert list(executor.map(pow, range(40), range(40), chunksize=6)) == [n**n for n in range(40)]
        results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert next(results) == (0, 1)
        assert next(results) == (0, 1)
        with pytest.raises(ZeroDivisionError):
            next(results)
        seen = []
        with pytest.raises(TimeoutError):
            for value in executor.map(pool_tasks.nap, [0, 0, 3], timeout=1):
                seen.append(value)
        assert seen == [0, 0]

    await in_thread(use)


async def test_no_stale_references_to_what_was_returned() -> None:
    def use(executor: PoolExecutor) -> int:
        future = executor.submit(pool_tasks.add, 1)
        future.result()
        assert future not in executor._pending
        return len(executor._pending)

    assert await in_thread(use) == 0


async def test_exceptions_are_the_tasks_own_with_the_remote_traceback() -> None:
    def use(executor: PoolExecutor) -> None:
        future = executor.submit(pool_tasks.refuse, "no")
        with pytest.raises(ValueError, match=r"^no$"):
            future.result()
        assert "raise ValueError(text)" in str(future.exception().__cause__)  # type: ignore[union-attr]

    await in_thread(use)


async def test_what_cannot_be_pickled_is_told_by_the_future_and_the_executor_lives() -> None:
    def use(executor: PoolExecutor) -> None:
        with pytest.raises(ConfigError):
            executor.submit(lambda: 1).result()
        with pytest.raises(RuntimeError, match="refused there"):
            executor.submit(len, pool_tasks.Touchy("there")).result()
        assert executor.submit(pool_tasks.add, 1).result() == 2

    await in_thread(use)


async def test_a_killed_worker_fails_its_future_and_the_executor_lives() -> None:
    """ProcessPoolExecutor is broken after this (BrokenProcessPool); we are not."""

    def use(executor: PoolExecutor) -> None:
        with pytest.raises(JobFailed):
            executor.submit(pool_tasks.crash, 9).result()
        assert executor.submit(pool_tasks.add, 1).result() == 2

    await in_thread(use)


async def test_wait_and_as_completed_work_on_its_futures() -> None:
    def use(executor: PoolExecutor) -> None:
        quick, slow = executor.submit(pool_tasks.add, 1), executor.submit(pool_tasks.nap, 1.5)
        done, rest = futures.wait([quick, slow], return_when=futures.FIRST_COMPLETED)
        assert (done, rest) == ({quick}, {slow})
        assert [future.result() for future in futures.as_completed([slow, quick])] == [2, 1.5]
        done, rest = futures.wait([executor.submit(divmod, 1, 0), slow], return_when=futures.FIRST_EXCEPTION)
        assert len(done) == 2

    await in_thread(use)


async def test_callbacks_are_called() -> None:
    def use(executor: PoolExecutor) -> None:
        called = threading.Event()
        executor.submit(pool_tasks.add, 1).add_done_callback(lambda future: called.set() if future.result() == 2 else None)
        assert called.wait(20)

    await in_thread(use)


async def test_what_waits_can_be_cancelled_and_what_runs_cannot() -> None:
    def use(executor: PoolExecutor) -> None:
        executor.submit(pool_tasks.add, 1).result()
        running = executor.submit(pool_tasks.nap, 1)
        waiting = [executor.submit(pool_tasks.nap, 60) for _ in range(5)]
        while not running.running():
            pass
        assert not running.cancel()
        assert all(future.cancel() for future in waiting)
        with pytest.raises(futures.CancelledError):
            waiting[0].result()
        assert running.result() == 1

    await in_thread(use, processes=1)


async def test_after_shutdown_nothing_is_taken_and_what_was_given_is_done() -> None:
    def use(executor: PoolExecutor) -> None:
        given = [executor.submit(pool_tasks.nap, 0.05) for _ in range(6)]
        with executor:
            pass
        assert all(future.done() for future in given)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(pool_tasks.add, 1)
        executor.shutdown()

    await in_thread(use)


async def test_shutdown_can_cancel_what_has_not_begun() -> None:
    def use(executor: PoolExecutor) -> None:
        given = [executor.submit(pool_tasks.nap, 0.1) for _ in range(50)]
        given[0].result()
        executor.shutdown(cancel_futures=True)
        assert 0 < sum(future.cancelled() for future in given) < 50
        assert all(future.done() for future in given)

    await in_thread(use)


async def test_shutdown_without_waiting_comes_back_at_once_and_the_work_is_done() -> None:
    def use(executor: PoolExecutor) -> None:
        future = executor.submit(pool_tasks.nap, 0.3)
        executor.shutdown(wait=False)
        assert not future.done()
        assert future.result() == 0.3

    await in_thread(use)


async def test_many_threads_may_use_one_executor() -> None:
    def use(executor: PoolExecutor) -> None:
        sums: list[int] = []
        threads = [threading.Thread(target=lambda: sums.append(sum(executor.map(pool_tasks.add, range(200))))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [sum(range(1, 201))] * 8

    await in_thread(use)


async def test_the_loop_runs_functions_in_it() -> None:
    async with Pool(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool.executor(), pool_tasks.add, 1) == 2


async def test_after_the_pool_is_closed_it_refuses() -> None:
    async with Pool(1) as pool:
        executor = pool.executor()
    with pytest.raises(RuntimeError, match="the pool is closed"):
        executor.submit(pool_tasks.add, 1)


@pytest.mark.requires("cgroup")
async def test_no_future_is_forgotten_when_the_pool_is_closed_at_once() -> None:
    """Not one that lies in the socket of a worker that has not begun it either, which can no longer be cancelled."""
    for turns in range(4):
        async with Pool(1, preload=["pool_tasks"]) as pool:
            await pool.run(pool_tasks.add, 1)
            given = [pool.executor().submit(pool_tasks.nap, 60) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await pool.aclose(at_once=True)
            done, pending = futures.wait(given, timeout=0)
            assert not pending
            assert all(future.cancelled() or isinstance(future.exception(), (ClosedError, JobFailed)) for future in done)


async def test_the_pool_s_own_loop_is_told_that_it_cannot_wait() -> None:
    async with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="own event loop cannot wait"), pool.executor() as executor:
            future = executor.submit(pool_tasks.add, 1)
        assert await asyncio.wrap_future(future) == 2
