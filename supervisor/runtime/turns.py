# SPDX-License-Identifier: Apache-2.0
"""Turns: tasks that wait in order of arrival for something that others free."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Owns the futures of those who wait.

    No turn is lost: cancelling one that was woken already wakes the next, and so does cancelling the first.
    """

    __slots__ = ("_last_place", "_waiting", "_woken")

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()  # by place
        self._woken: dict[int, None] = {}  # places whose tasks have not run since
        self._last_place = 0

    def __bool__(self) -> bool:
        """Somebody waits, or was woken and has not run yet."""
        return bool(self._waiting or self._woken)

    def place(self) -> int:
        """A place of one's own at the end of the line, to wait there as often as it takes."""
        self._last_place += 1
        return self._last_place

    def is_next(self, place: int) -> bool:
        """Nobody is at an earlier place, be it waiting or woken and about to run."""
        return self._is_first(place) and all([place <= other for other in self._woken])

    def _is_first(self, place: int) -> bool:
        return not self._waiting or place < self._waiting[0][0]

    async def wait(self, place: int = 0) -> None:
        """Until woken; at this place, where whoever was woken for nothing waits again, or at the end of the line."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place or self.place(), waiter)
        if self._is_first(entry[0]):
            self._waiting.appendleft(entry)
        elif entry[0] > self._waiting[-1][0]:
            self._waiting.append(entry)
        else:  # several were woken for nothing: these are few, and at the front
            self._waiting.insert(next(at for at, (other, _) in enumerate(self._waiting) if other > entry[0]), entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() or self._leave(entry):
                self.wake()
            raise
        finally:
            self._woken.pop(entry[0], None)

    def _leave(self, entry: tuple[int, asyncio.Future[None]]) -> bool:
        """Out of the line; True when it was the first: there may be enough for the one behind, who waited only for its turn."""
        was_first = bool(self._waiting) and self._waiting[0] is entry
        try:
            self._waiting.remove(entry)
        except ValueError:
            pass  # passed over by wake()
        return was_first

    def wake(self) -> None:
        """Wake the first who waits."""
        while self._waiting:
            place, waiter = self._waiting.popleft()
            if not waiter.done():
                self._woken[place] = None
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        while self._waiting:
            self.wake()
