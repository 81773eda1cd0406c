# SPDX-License-Identifier: Apache-2.0
"""Turns: tasks that wait in order of arrival for something that others free."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Owns the futures of those who wait. Cancelling one that was woken already wakes the next: no turn is lost."""

    __slots__ = ("_last_place", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()  # by place
        self._last_place = 0

    def __bool__(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)

    def place(self) -> int:
        """A place of one's own at the end of the line, to wait there as often as it takes."""
        self._last_place += 1
        return self._last_place

    def is_next(self, place: int) -> bool:
        """Nobody waits at an earlier place."""
        return not self._waiting or place < self._waiting[0][0]

    async def wait(self, place: int = 0) -> None:
        """Until woken; at this place, where whoever was woken for nothing waits again, or at the end of the line."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place or self.place(), waiter)
        if self.is_next(entry[0]):
            self._waiting.appendleft(entry)
        elif entry[0] > self._waiting[-1][0]:
            self._waiting.append(entry)
        else:  # several were woken for nothing: these are few, and at the front
            self._waiting.insert(next(at for at, (other, _) in enumerate(self._waiting) if other > entry[0]), entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                try:
                    self._waiting.remove(entry)
                except ValueError:
                    pass
            else:
                self.wake()
            raise

    def wake(self) -> None:
        """Wake the first who waits."""
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        while self._waiting:
            self.wake()
