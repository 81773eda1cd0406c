# SPDX-License-Identifier: Apache-2.0
"""A line of tasks that wait for something that others free."""

from __future__ import annotations

import asyncio

from supervisor.runtime.turns import Turns


async def test_several_who_are_woken_for_nothing_at_once_keep_their_order() -> None:
    turns, came, free = Turns(), list[int](), False

    async def come(number: int) -> None:
        place = turns.place()
        while not free or not turns.is_next(place):
            await turns.wait(place)
        came.append(number)
        turns.wake()

    tasks = [asyncio.create_task(come(number)) for number in range(5)]
    await asyncio.sleep(0)
    for _ in range(3):
        turns.wake()
    await asyncio.sleep(0)
    assert turns
    free = True
    turns.wake()
    await asyncio.gather(*tasks)
    assert came == [0, 1, 2, 3, 4]
    assert not turns


async def test_a_turn_is_passed_on_when_whoever_had_it_is_cancelled() -> None:
    turns = Turns()
    first, second = (asyncio.create_task(turns.wait()) for _ in range(2))
    await asyncio.sleep(0)
    turns.wake()
    first.cancel()
    await second
    assert first.cancelled()
    assert not turns


async def test_whoever_was_woken_and_has_not_run_yet_keeps_the_turn() -> None:
    """Otherwise one behind it that runs first, or one that comes just now, goes before it."""
    turns = Turns()
    first, second = turns.place(), turns.place()
    waiting = asyncio.create_task(turns.wait(first))
    await asyncio.sleep(0)
    turns.wake()
    assert turns and turns.is_next(first) and not turns.is_next(second)
    await waiting
    assert not turns and turns.is_next(second)
