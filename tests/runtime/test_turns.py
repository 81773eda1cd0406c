# SPDX-License-Identifier: Apache-2.0
"""A line of tasks that wait for something that others free."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.runtime.turns import Turns

LONG = 20.0


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


async def test_those_behind_the_first_go_on_when_it_is_cancelled() -> None:
    """There may be enough for them: they waited for their turn only."""
    turns = Turns()
    first, second = (asyncio.create_task(turns.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(LONG):
        await second
    assert not turns


class Store:
    """Owns an amount that tasks take in the order in which they came, as senders take the room in a channel."""

    def __init__(self) -> None:
        self.turns, self.amount, self.taken = Turns(), 0, list[int]()
        self.tasks = list[asyncio.Task[None]]()
        self.sizes = list[int]()

    def come(self, size: int) -> None:
        self.sizes.append(size)
        self.tasks.append(asyncio.create_task(self._take(len(self.tasks), size)))

    async def _take(self, number: int, size: int) -> None:
        place = self.turns.place()
        while not self.turns.is_next(place) or self.amount < size:
            await self.turns.wait(place)
        self.amount -= size
        self.taken.append(number)
        self.turns.wake()

    def cancel(self, number: int) -> None:
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def add(self, amount: int) -> None:
        self.amount += amount
        self.turns.wake()

    async def rest(self) -> None:
        """Until no task has anything to do."""
        for _ in range(3 * len(self.tasks) + 3):
            await asyncio.sleep(0)

    @property
    def waiting(self) -> list[int]:
        return [size for size, task in zip(self.sizes, self.tasks, strict=True) if not task.done()]


STEPS = st.one_of(
    st.tuples(st.just("come"), st.integers(0, 4)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("add"), st.integers(0, 5)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_whatever_comes_goes_and_is_added_nobody_is_overtaken_and_nobody_waits_for_what_is_there(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        store = Store()
        for step, number in steps:
            if step == "turn":
                for _ in range(number):
                    await asyncio.sleep(0)
            else:
                getattr(store, step)(number)
        await store.rest()
        assert not store.waiting or store.waiting[0] > store.amount
        store.add(4 * len(store.tasks))
        await store.rest()
        assert not store.waiting
        assert not store.turns
        assert store.taken == sorted(store.taken)
        assert sum(task.cancelled() for task in store.tasks) + len(store.taken) == len(store.tasks)

    asyncio.run(play())
