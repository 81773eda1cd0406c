# SPDX-License-Identifier: Apache-2.0
"""When what jobs held is given back: not while another one is being launched."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

#: Who launches without a pause has no more ended jobs than these waiting, and none of them longer than this.
WAITING_MAX: Final = 16
WAITING_MAX_S: Final = 0.1


class Releases:
    """Owns the ends of jobs whose outcome is told and whose descriptors and cgroup are still there.

    The kernel removes a cgroup under the lock under which it makes one, and who starts a job as soon as the one before it has
    ended would wait for both.
    """

    __slots__ = ("_launching", "_timed", "_waiting")

    def __init__(self) -> None:
        self._launching = 0
        self._timed = False
        self._waiting: list[Callable[[], object]] = []

    def add(self, release: Callable[[], object]) -> None:
        """Call it once those who wait for the job have been told, and what they launch then has been launched."""
        self._waiting.append(release)
        asyncio.get_running_loop().call_soon(self._look)

    def launching(self) -> None:
        """A launch is under way, until :meth:`launched`."""
        self._launching += 1

    def launched(self) -> None:
        """One of them is over."""
        self._launching -= 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if not self._launching or len(self._waiting) > WAITING_MAX:
            self._release()
        elif not self._timed and self._waiting:
            self._timed = True
            asyncio.get_running_loop().call_later(WAITING_MAX_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timed = False
        self._release()

    def _release(self) -> None:
        try:
            while self._waiting:
                self._waiting.pop(0)()
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._release)
