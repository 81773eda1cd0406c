# SPDX-License-Identifier: Apache-2.0
"""Turns: tasks that wait in order of arrival for something that others free."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Owns the futures of those who wait. Cancelling one that was woken already wakes the next: no turn is lost."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)

    async def wait(self, *, again: bool = False) -> None:
        """Until woken; ``again``: was woken for nothing, and keeps its place at the front."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                try:
                    self._waiting.remove(waiter)
                except ValueError:
                    pass
            else:
                self.wake()
            raise

    def wake(self) -> None:
        """Wake the first who waits."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        while self._waiting:
            self.wake()
