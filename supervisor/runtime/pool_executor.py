# SPDX-License-Identifier: Apache-2.0
"""PoolExecutor: a pool as a concurrent.futures.Executor, for other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

from supervisor.errors import BrokenError, ClosedError
from supervisor.runtime.pool_task import ThreadTask, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from supervisor.runtime.pool_crew import Crew
    from supervisor.runtime.pool_task import TaskLimits

    Packed = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], bytes]


class PoolExecutor(concurrent.futures.Executor):
    """Owns the tasks that other threads have submitted and that the pool's loop has not taken yet."""

    def __init__(self, crew: Crew, packed: Packed, terms: TaskLimits) -> None:
        self._crew = crew
        self._packed = packed
        self._terms = terms
        self._loop = crew.loop
        self._lock = threading.Lock()
        self._arriving: list[ThreadTask] = []
        self._pending: set[ThreadTask] = set()
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """As the standard library: what cannot be pickled is told by the future. Raises RuntimeError after :meth:`shutdown`."""
        task = ThreadTask()
        task.terms = self._terms
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._crew_open()
        try:
            task.content = self._packed(function, args, kwargs)
        except Exception as error:
            task.set_exception(error)
            return task
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.add(task)
            quiet = not self._arriving
            self._arriving.append(task)
        task.add_done_callback(self._over)
        if quiet:
            try:
                self._loop.call_soon_threadsafe(self._arrive)
            except RuntimeError:
                task.cancel()
                raise RuntimeError("cannot schedule new futures: the pool's event loop is closed") from None
        return task

    def _crew_open(self) -> None:
        try:
            self._crew.check()
        except ClosedError as error:
            raise RuntimeError(f"cannot schedule new futures: {error}") from error

    def _over(self, task: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._pending.discard(task)

    def _arrive(self) -> None:
        """On the pool's loop: hand over what has come, and leave what comes meanwhile to the next turn, after the workers' answers."""
        with self._lock:
            arrived, self._arriving = self._arriving, []
        for task in arrived:
            if task.cancelled():
                task.begin()
                continue
            try:
                self._crew.check()
            except (ClosedError, BrokenError) as error:
                settle(task, None, error)
            else:
                self._crew.submit(task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; ``wait`` for those given, after ``cancel_futures`` those not begun are cancelled.

        Raises RuntimeError instead of waiting on the pool's own event loop, which would have to give the answers.
        """
        with self._lock:
            self._closed = True
            pending = list(self._pending)
        if cancel_futures:
            for task in pending:
                task.cancel()
        if wait and not all([task.done() for task in pending]) and self._on_own_loop():
            raise RuntimeError("the pool's own event loop cannot wait for its executor: shutdown(wait=False), or use it in another thread")
        if wait:
            concurrent.futures.wait(pending)

    def _on_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False
