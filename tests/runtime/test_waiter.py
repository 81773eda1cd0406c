# SPDX-License-Identifier: Apache-2.0
"""A waiter tells its task in the turn in which the news came, and is cancelled as a Future is."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from supervisor import Supervisor
from supervisor.runtime.waiter import Waiter


async def waiting(waiter: Waiter) -> str:
    await waiter
    return "told"


async def begun(work: Coroutine[Any, Any, str]) -> asyncio.Task[str]:
    """A task that has come as far as it can."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


def from_the_loop(*calls: Callable[[], object]) -> asyncio.Future[None]:
    """Call these one after the other where no task runs, and tell when it is over."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def run() -> None:
        for call in calls:
            call()
        over.set_result(None)

    loop.call_soon(run)
    return over


async def test_the_task_goes_on_before_the_call_that_tells_it_returns() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await begun(waiting(waiter))
    done: list[bool] = []
    await from_the_loop(waiter.resume, lambda: done.append(task.done()))
    assert done == [True] and await task == "told"


async def test_telling_twice_tells_once() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await begun(waiting(waiter))
    await from_the_loop(waiter.resume, waiter.resume)
    assert await task == "told"


async def test_a_cancelled_task_ends_and_what_comes_later_is_nothing_to_it() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    task = await begun(waiting(waiter))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await from_the_loop(waiter.resume)


async def test_a_cancellation_before_the_news_wins_and_one_after_it_meets_what_the_task_does_then() -> None:
    loop = asyncio.get_running_loop()
    waiter = Waiter(loop)
    task = await begun(waiting(waiter))
    await from_the_loop(task.cancel, waiter.resume)
    assert task.cancelled()

    async def then_sleeps(waiter: Waiter) -> str:
        await waiter
        await asyncio.sleep(60)
        return "slept"

    later = Waiter(loop)
    task = await begun(then_sleeps(later))
    await from_the_loop(later.resume, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_it_holds() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting(Waiter(asyncio.get_running_loop())), 0.01)


async def test_the_task_keeps_its_own_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    waiter = Waiter(asyncio.get_running_loop())

    async def tell() -> str:
        name.set("ours")
        await waiter
        return name.get()

    task = await begun(tell())
    await from_the_loop(waiter.resume)
    assert await task == "ours" and name.get() == "nobody"


def test_one_who_breaks_out_of_the_loop_keeps_the_news_from_nobody_else() -> None:
    loop = asyncio.new_event_loop()
    try:

        async def interrupted(waiter: Waiter) -> str:
            await waiter
            raise KeyboardInterrupt

        async def main() -> tuple[asyncio.Task[str], asyncio.Task[str]]:
            async with Supervisor() as sup:
                first, second = Waiter(loop), Waiter(loop)
                tasks = await begun(interrupted(first)), await begun(waiting(second))
                sup.wake([first, second])
            return tasks

        running = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(running)
        broken, other = loop.run_until_complete(running)
        assert loop.run_until_complete(other) == "told"
        assert isinstance(broken.exception(), KeyboardInterrupt)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def test_the_end_of_a_job_is_told_in_the_turn_in_which_it_is_known() -> None:
    async with Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        order: list[str] = []

        async def wait() -> str:
            await job.wait()
            order.append("told")
            return "told"

        task = await begun(wait())
        end = sup._take_events

        def take_events() -> None:
            end()
            if job.ended and not order:
                asyncio.get_running_loop().call_soon(order.append, "next turn")

        sup._take_events = take_events  # type: ignore[method-assign]
        os.kill(job.pid, signal.SIGTERM)
        await task
        await asyncio.sleep(0)
    assert order == ["told", "next turn"]
