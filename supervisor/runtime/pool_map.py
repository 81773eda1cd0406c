# SPDX-License-Identifier: Apache-2.0
"""The results of a map: read a bounded distance ahead, given out in the order of the items or as they come."""

from __future__ import annotations

import asyncio
from collections import deque

from supervisor.runtime.pool_task import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
    from typing import Any, Final

    from supervisor.runtime.pool import Tasks
    from supervisor.runtime.pool_task import AsyncTask

#: How many items are taken from the iterables before their results have been taken.
READ_AHEAD: Final = 1024


class Results:
    """Owns the tasks of one map that are not given out yet. ``await`` it for a list, or ``async for`` it."""

    def __init__(self, tasks: Tasks, function: Callable[..., Any], iterables: tuple[Iterable[Any], ...], *, ordered: bool) -> None:
        self._tasks = tasks
        self._function = function
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._batch = Batch()
        self._ordered = ordered

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._all().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._in_order() if self._ordered else self._as_completed()

    async def _all(self) -> list[Any]:
        return [value async for value in self]

    def _more(self) -> AsyncTask | None:
        """Submit the next item; None when there is none."""
        args = next(self._items, None)
        return None if args is None else self._tasks._submit_of(self._batch, self._function, args)

    async def _in_order(self) -> AsyncIterator[Any]:
        waiting: deque[AsyncTask] = deque()
        more = True
        try:
            while True:
                while more and len(waiting) < READ_AHEAD:
                    task = self._more()
                    if task is None:
                        more = False
                    else:
                        waiting.append(task)
                if not waiting:
                    return
                first = waiting[0]
                value = first.result() if first.done() else await first
                waiting.popleft()
                yield value
        finally:
            _cancel(waiting)

    async def _as_completed(self) -> AsyncIterator[Any]:
        running: set[AsyncTask] = set()
        done: deque[AsyncTask] = deque()
        arrived = asyncio.Event()
        more = True

        def finished(task: asyncio.Future[Any]) -> None:
            done.append(task)  # type: ignore[arg-type]
            arrived.set()

        try:
            while True:
                while more and len(running) < READ_AHEAD:
                    task = self._more()
                    if task is None:
                        more = False
                    else:
                        running.add(task)
                        task.add_done_callback(finished)
                if not running:
                    return
                while not done:
                    arrived.clear()
                    await arrived.wait()
                first = done.popleft()
                running.discard(first)
                yield first.result()
        finally:
            for task in running:
                task.remove_done_callback(finished)
            _cancel(running)


def _cancel(tasks: Iterable[AsyncTask]) -> None:
    """Those that wait first, so that stopping the running ones does not let others begin."""
    for task in reversed(list(tasks)):
        if not task.cancel() and not task.cancelled():
            task.exception()  # nobody will ask for it any more
