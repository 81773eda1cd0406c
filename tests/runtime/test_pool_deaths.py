# SPDX-License-Identifier: Apache-2.0
"""A worker's death, whatever its cause, fails exactly the task that it was at, and is made good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import pool_tasks
import pytest
from waiting import is_alive, wait_dead

from supervisor import BrokenError, JobFailed, Pool, TaskTimeoutError, Verdict
from supervisor.runtime.pool_task import Batch

BATCH = Batch()
DEATHS = [
    (pool_tasks.leave, 3, "nonzero_exit"),
    (pool_tasks.leave, 0, "ok"),
    (pool_tasks.crash, signal.SIGSEGV, "signaled"),
    (pool_tasks.crash, signal.SIGKILL, "signaled"),
    (pool_tasks.crash, signal.SIGTERM, "signaled"),
]


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize(("function", "argument", "verdict"), DEATHS, ids=str)
async def test_the_task_fails_with_the_outcome_and_the_others_are_done(function: object, argument: int, verdict: str) -> None:
    async with Pool(2) as pool:
        others = [pool.submit(pool_tasks.nap, 0.01, n) for n in range(20)]
        doomed = pool.submit(function, argument)  # type: ignore[arg-type]
        others += [pool.submit(pool_tasks.nap, 0.01, n) for n in range(20, 40)]
        with pytest.raises(JobFailed) as caught:
            await doomed
        assert caught.value.outcome.verdict == verdict
        assert [await task for task in others] == list(range(40))


@pytest.mark.requires("memory")
async def test_a_worker_beyond_its_memory_is_a_memory_limit() -> None:
    async with Pool(2, limits={"memory_max": "100M"}) as pool:
        others = [pool.submit(pool_tasks.nap, 0.01, n) for n in range(20)]
        with pytest.raises(JobFailed) as caught:
            await pool.run(pool_tasks.take_memory, 400 << 20)
        assert caught.value.outcome.verdict == Verdict.MEMORY_LIMIT
        assert [await task for task in others] == list(range(20))


@pytest.mark.requires("memory")
async def test_memory_of_one_task_is_set_on_its_worker_and_taken_back() -> None:
    async with Pool(1, limits={"memory_max": "1G"}) as pool:
        with pytest.raises(JobFailed) as caught:
            await pool.under(memory_max="100M").run(pool_tasks.take_memory, 400 << 20)
        assert caught.value.outcome.verdict == Verdict.MEMORY_LIMIT
        assert await pool.run(pool_tasks.take_memory, 400 << 20) == 400 << 20
        assert await pool.under(memory_max="100M").run(pool_tasks.add, 1) == 2
        assert await pool.run(pool_tasks.take_memory, 400 << 20) == 400 << 20


async def test_what_a_dead_worker_left_behind_is_gone_with_it(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with Pool(1) as pool:
        with pytest.raises(JobFailed):
            await pool.run(pool_tasks.leave_a_child, str(path))
        wait_dead(int(path.read_text()))


async def test_an_item_of_a_map_takes_only_itself_along(tmp_path: Path) -> None:
    """Those sent ahead to the same worker were never begun, and are called exactly once elsewhere."""
    path = str(tmp_path / "trace")
    async with Pool(2, min_processes=2) as pool:
        quick = [pool.submit(pool_tasks.add, n) for n in range(100)]
        await asyncio.gather(*quick)
        batch = pool.as_completed(pool_tasks.add, range(2000))
        assert len([value async for value in batch]) == 2000  # the pace is known: much is sent ahead now
        tasks = [pool.submit(pool_tasks.append, path, str(n)) for n in range(300)]
        for pid in pool.processes:
            os.kill(pid, signal.SIGKILL)
        done = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [n for n, result in enumerate(done) if isinstance(result, JobFailed)]
    assert len(failed) <= 2
    lines = Counter((tmp_path / "trace").read_text().split())
    assert all(lines[str(n)] == 1 for n in range(300) if n not in failed)
    assert all(lines[str(n)] <= 1 for n in failed)


async def test_kill_9_of_random_workers_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "trace")
    chance = random.Random(7)
    killed = 0
    count = 3000
    async with Pool(3, min_processes=3) as pool:

        async def kill() -> None:
            nonlocal killed
            before = 0
            while True:
                await asyncio.sleep(chance.uniform(0.02, 0.15))
                done = sum([task.done() for task in waiting])
                if done < before + 30 and chance.random() < 0.8:
                    continue  # on a busy machine nobody would live long enough to work
                before = done
                if pids := pool.processes:
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    killed += 1

        results: dict[int, object] = {}
        waiting = {pool._submit_of(BATCH, pool_tasks.append, (path, str(n), 0.002)): n for n in range(count)}
        killer = asyncio.ensure_future(kill())
        done, _ = await asyncio.wait(waiting, timeout=50)
        for task in done:
            results[waiting[task]] = task.exception() or task.result()
        killer.cancel()
    assert killed > 5
    assert len(results) == count
    lines = Counter((tmp_path / "trace").read_text().split())
    failed = {n for n, result in results.items() if isinstance(result, JobFailed)}
    assert len(failed) <= killed
    assert {type(result) for result in results.values()} <= {str, JobFailed}, results
    assert {n for n, result in results.items() if result == str(n)} == set(range(count)) - failed
    assert all(lines[str(n)] == 1 for n in results if n not in failed)
    assert max(lines.values()) == 1


async def test_a_killed_idle_worker_fails_no_task() -> None:
    async with Pool(1) as pool:
        for _ in range(8):
            worker = await pool.run(pool_tasks.pid)
            os.kill(worker, signal.SIGKILL)
            assert await pool.run(pool_tasks.pid) != worker


async def test_workers_killed_before_they_come_to_a_task_are_no_crash_loop() -> None:
    killed: set[int] = set()
    async with Pool(2, min_processes=2) as pool:
        task = asyncio.ensure_future(pool.run(pool_tasks.nap, 0.2, "done"))
        while len(killed) < 20:
            await asyncio.sleep(0.01)
            for pid in set(pool.processes) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                if task.done():  # it had begun: this one is its failure, not the pool's
                    assert isinstance(task.exception(), JobFailed)
                    task = asyncio.ensure_future(pool.run(pool_tasks.nap, 0.2, "done"))
        assert not pool.broken
        while (failed := (await asyncio.wait([task]))[0].pop().exception()) is not None:
            assert isinstance(failed, JobFailed)
            task = asyncio.ensure_future(pool.run(pool_tasks.nap, 0.2, "done"))
        assert task.result() == "done"


async def test_a_program_that_says_what_nobody_asked_for_is_a_crash_loop_not_a_spin() -> None:
    script = "import time; print('hello', flush=True); time.sleep(600)"  # the end of its input does not end it
    async with Pool(1, min_processes=1, command=[sys.executable, "-c", script]) as pool:
        while not pool.broken:
            await asyncio.sleep(0.01)
        with pytest.raises(BrokenError, match="5 workers in a row"):
            await pool.run("a line")


@pytest.mark.usefixtures("no_cgroup")  # so that each worker imports by itself
async def test_workers_that_never_come_to_a_task_are_a_crash_loop_not_a_spin(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "fatal.py").write_text(f"import os\nopen({str(trace)!r}, 'a').write('x')\nos._exit(9)\n")
    sys.path.insert(0, str(tmp_path))
    try:
        async with Pool(1, preload=["fatal"]) as pool:
            tasks = [pool.submit(pool_tasks.add, n) for n in range(3)]
            for task in tasks:
                with pytest.raises(BrokenError, match=r"5 workers in a row ended before any task: nonzero_exit exit 9") as caught:
                    await task
                assert isinstance(caught.value.__cause__, JobFailed)
            with pytest.raises(BrokenError):
                await pool.run(pool_tasks.add, 1)
    finally:
        sys.path.remove(str(tmp_path))
    assert trace.read_text() == "x" * 5


async def test_workers_that_get_ready_and_end_at_once_are_a_crash_loop_too(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with Pool(1, min_processes=1, initializer=pool_tasks.die_soon, initargs=(str(trace),)) as pool:
        while not pool.broken:
            await asyncio.sleep(0.01)
        with pytest.raises(BrokenError, match="5 workers in a row"):
            await pool.run(pool_tasks.add, 1)
    assert trace.read_text() == "up\n" * 5


async def test_a_program_that_cannot_be_started_is_told_at_once() -> None:
    async with Pool(2, command=["/no/such/program"]) as pool:
        with pytest.raises(BrokenError, match="no worker can be started: start_failed"):
            await pool.run("a line")


async def test_without_a_descriptor_for_a_worker_the_task_fails_and_later_ones_are_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Pool(1) as pool:
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.dup(0))
            task = pool.submit(pool_tasks.add, 1)
            with pytest.raises(BrokenError, match="Too many open files"):
                await task
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)


async def test_terms_of_a_task_do_not_wait_for_a_worker_that_never_starts() -> None:
    async with Pool(1, preload=["no_such_module_anywhere"]) as pool:
        with pytest.raises(BrokenError):
            await pool.under(cpu_weight=50).run(pool_tasks.add, 1)


async def test_an_initializer_that_raises_is_told_with_its_exception(tmp_path: Path) -> None:
    async with Pool(1, initializer=pool_tasks.set_up, initargs=(str(tmp_path / "trace"), 5)) as pool:
        with pytest.raises(BrokenError, match="cannot be prepared") as caught:
            await pool.run(pool_tasks.add, 1)
        assert isinstance(caught.value.__cause__, OSError)


async def test_a_task_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hear = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    async with Pool(1) as pool:
        await pool.run(pool_tasks.add, 1)
        with pytest.raises(TaskTimeoutError) as caught:
            await pool.under(timeout="300ms").run(pool_tasks.say_and_wait, str(fifo), "pid")
        worker = int(os.read(hear, 100).split()[1])
        os.close(hear)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.outcome.verdict == Verdict.WALL_LIMIT
        assert caught.value.outcome.killed
        assert not is_alive(worker)
        assert await pool.under(timeout="20s").run(pool_tasks.add, 1) == 2


async def test_a_task_that_takes_too_long_may_be_asked_first() -> None:
    async with Pool(1) as pool:
        worker = await pool.run(pool_tasks.pid)
        with pytest.raises(TaskTimeoutError):
            await pool.under(timeout="100ms", interrupt="20s").run(pool_tasks.nap, 50)
        assert await pool.run(pool_tasks.pid) == worker


async def test_the_limits_of_one_task_are_no_burden_to_the_next() -> None:
    """A lower hard rlimit is what nobody may raise again: an rlimit is put back as we have it, or the worker is replaced."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with Pool(1) as pool:
        assert await pool.under(limit_nofile=100).run(pool_tasks.hard_limit, resource.RLIMIT_NOFILE) == 100
        assert await pool.run(pool_tasks.hard_limit, resource.RLIMIT_NOFILE) == hard
        assert await pool.under(limit_nofile=100).run(pool_tasks.hard_limit, resource.RLIMIT_NOFILE) == 100
        assert await pool.under(timeout="20s").run(pool_tasks.hard_limit, resource.RLIMIT_NOFILE) == hard


async def test_a_task_with_terms_whose_worker_died_before_it_goes_to_another() -> None:
    async with Pool(1) as pool:
        for _ in range(3):
            os.kill(await pool.run(pool_tasks.pid), signal.SIGKILL)
            assert await pool.under(limit_nofile=100, timeout="20s").run(pool_tasks.add, 1) == 2


async def test_a_shortage_of_descriptors_that_passes_ends_no_pool_whose_workers_live() -> None:
    """Wherever the start of the second worker fails: the first one does all the work, and the second comes when it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(14):
        async with Pool(2, idle_timeout="1min") as pool:
            await pool.run(pool_tasks.pid)
            await asyncio.sleep(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + more, hard))
            try:
                assert await asyncio.gather(*[pool.run(pool_tasks.nap, 0.02) for _ in range(4)]) == [0.02] * 4
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await asyncio.gather(*[pool.run(pool_tasks.nap, 0.05) for _ in range(4)])
            assert len(pool.processes) == 2
