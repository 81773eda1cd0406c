# SPDX-License-Identifier: Apache-2.0
"""Cancelling: the work is really stopped, at every await, and nothing is left (the autouse fixture looks)."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

import pool_tasks
import pytest
from waiting import is_alive, wait_dead

from supervisor import Pool


class Fifo:
    """A FIFO through which a task says that it runs, and as which process."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDWR)

    async def pid(self) -> int:
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.run_in_executor(None, select.select, [self._fd], [], [], 20), 25)
        return int(os.read(self._fd, 100).split()[1])

    def close(self) -> None:
        os.close(self._fd)


async def test_cancelling_a_running_task_ends_its_process_and_no_other(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "fifo")
    async with Pool(2) as pool:
        task = asyncio.ensure_future(pool.run(pool_tasks.say_and_wait, fifo.path, "pid"))
        worker = await fifo.pid()
        others = [pool.submit(pool_tasks.nap, 0.01, n) for n in range(30)]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wait_dead(worker)
        assert [await other for other in others] == list(range(30))
    fifo.close()


async def test_a_task_that_is_asked_first_may_clean_up_and_its_worker_stays(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "fifo")
    async with Pool(1) as pool:
        task = pool.under(interrupt="20s").submit(pool_tasks.say_and_give_up_politely, fifo.path)
        worker = await fifo.pid()
        task.cancel()
        assert await pool.run(pool_tasks.pid) == worker
    fifo.close()


async def test_cancelling_a_waiting_task_leaves_everybody_alone(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with Pool(1) as pool:
        worker = await pool.run(pool_tasks.pid)
        first = pool.submit(pool_tasks.nap, 0.1)
        second = pool.submit(pool_tasks.append, str(trace), "no")
        second.cancel()
        await first
        assert await pool.run(pool_tasks.pid) == worker
    assert not trace.exists()


async def test_a_map_that_is_left_early_stops_its_tasks(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with Pool(1) as pool:
        results = aiter(pool.map(pool_tasks.append, [str(trace)] * 500, map(str, range(500)), [0.02] * 500))
        assert await anext(results) == "0"
        await results.aclose()  # type: ignore[attr-defined]
        assert await pool.run(pool_tasks.add, 1) == 2
    assert len(trace.read_text().split()) < 50


@pytest.mark.parametrize("kind", [RuntimeError, asyncio.CancelledError])
async def test_leaving_the_scope_on_an_exception_stops_everything_at_once(tmp_path: Path, kind: type[BaseException]) -> None:
    fifo = Fifo(tmp_path / "fifo")
    with pytest.raises(kind):
        async with Pool(2) as pool:
            task = pool.submit(pool_tasks.say_and_wait, fifo.path, "pid")
            waiting = [pool.submit(pool_tasks.nap, 60) for _ in range(5)]
            worker = await fifo.pid()
            raise kind
    assert not is_alive(worker)
    assert task.cancelled()
    assert all(other.cancelled() for other in waiting)
    fifo.close()


async def test_a_cancelled_close_stops_what_it_was_waiting_for(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "fifo")

    async def use() -> None:
        async with Pool(2) as pool:
            pool.submit(pool_tasks.say_and_wait, fifo.path, "pid")

    using = asyncio.ensure_future(use())
    worker = await fifo.pid()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(using, 20)
    assert not is_alive(worker)
    fifo.close()


@pytest.mark.parametrize("options", [{}, {"preload": ["json"]}, {"min_processes": 2}, {"command": ["cat"]}], ids=str)
async def test_cancelled_at_any_turn_of_the_loop_nothing_is_left(options: dict[str, object]) -> None:
    """The pool is cancelled after 0, 1, 2 ... turns; in the end it comes through."""

    async def use() -> object:
        async with Pool(2, **options) as pool:  # type: ignore[arg-type]
            return await (pool.run("x") if "command" in options else pool.run(pool_tasks.add, 1))

    turns = 0
    while True:
        using = asyncio.ensure_future(use())
        for _ in range(turns):
            if using.done():
                break
            await asyncio.sleep(0)
        if using.done():
            assert using.result() in (2, "x")
            return
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(using, 30)
        turns = turns + 1 if turns < 12 else int(turns * 1.7)
        assert turns < 100_000_000
