# SPDX-License-Identifier: Apache-2.0
"""Waiter: what a task awaits that is resumed in the very turn of the loop in which its news came."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context
    from typing import Any


class Waiter:
    """One task's wait for one piece of news. Await it once; :meth:`resume` it from a callback of the loop.

    A Future tells its task by one more turn of the loop, and to a task that waits for the end of a job that
    turn is a tenth of the whole delay. This is the least that a task asks of what it waits for (asyncio's
    "Future-like" protocol, ``_asyncio_future_blocking``); cancelling the task works as with a Future.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop", "_message")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._cancelled = False
        self._message: Any = None

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def resume(self) -> None:
        """Let the task go on at once, until it waits again; without effect when it goes on already.

        Only where no task runs. Raises what leaves a loop: SystemExit and KeyboardInterrupt of the task.
        """
        callback, self._callback = self._callback, None
        if callback is not None:
            assert self._context is not None
            self._context.run(callback, self)

    # what a task calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        self._callback, self._context = callback, context

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled: it is resumed soon, as the one who cancels it runs now. False when it goes on already."""
        if self._callback is None or self._cancelled:
            return False
        self._cancelled, self._message = True, msg
        self._loop.call_soon(self.resume)
        return True

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError(*([] if self._message is None else [self._message]))
