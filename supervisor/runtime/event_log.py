# SPDX-License-Identifier: Apache-2.0
"""The events of one supervisor: numbered once, handed to every reader, kept for none that is not there."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque

from supervisor.errors import BusyError
from supervisor.kernel import native
from supervisor.model.events import Output, Overflow, Terminated
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

    from supervisor.model.events import Event

EVERY_JOB: Final = 0
DEFAULT_MAX_EVENTS: Final = 1024
DEFAULT_MAX_BYTES: Final = 8 << 20


class EventReader:
    """One reader's place in the events: an asynchronous iterator over a bounded queue.

    When the reader is too slow the oldest events make room, and the next thing it reads is an
    :class:`~supervisor.model.events.Overflow` that says how many it missed: the latest state, and the end,
    always arrive. Read by one task at a time. Leaving the loop early needs no clean-up.
    """

    def __init__(self, max_events: int, max_bytes: int, output: bool) -> None:
        self.output = output
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: deque[Event] = deque()
        self._bytes = 0
        self._lost = 0
        self._finished = False
        self._waiter: asyncio.Future[None] | None = None

    def push(self, event: Event) -> None:
        """Take one event; never blocks."""
        self._queue.append(event)
        if type(event) is Output:
            self._bytes += len(event.data)
        while len(self._queue) > self._max_events or self._bytes > self._max_bytes:
            if len(self._queue) == 1:
                break  # one event always fits
            oldest = self._queue.popleft()
            if type(oldest) is Output:
                self._bytes -= len(oldest.data)
            self._lost += 1
        self._wake()

    def finish(self) -> None:
        """Nothing will follow what is queued."""
        self._finished = True
        self._wake()

    def close(self) -> None:
        """Stop reading: what is queued is dropped and the iteration ends."""
        self._queue.clear()
        self._lost = self._bytes = 0
        self.finish()

    @property
    def finished(self) -> bool:
        """No event will be taken any more."""
        return self._finished

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> Event:
        """The next event; raises :class:`BusyError` when another task is reading. Cancellation loses nothing."""
        while not self._queue:
            if self._finished:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise BusyError("another task is reading these events; open a reader for each")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._lost:
            lost, self._lost = self._lost, 0
            return Overflow(number=self._queue[0].number - 1, time_ns=native.now_ns(), lost=lost)
        event = self._queue.popleft()
        if type(event) is Output:
            self._bytes -= len(event.data)
        return event


class EventLog:
    """Owns the readers of one supervisor's events and numbers what they are given."""

    def __init__(self) -> None:
        self._readers: dict[int, dict[weakref.ref[EventReader], None]] = {}  # by job, in order: an event costs its own readers alone
        self._number = 0
        self._closed = False

    @property
    def is_read(self) -> bool:
        """Somebody reads: without readers nobody makes events."""
        return bool(self._readers)

    def readers_of(self, job: int) -> Iterator[EventReader]:
        """Everybody who reads the events of this job (0: those of every job), the forgotten ones dropped."""
        for key in (EVERY_JOB, job) if job else (EVERY_JOB,):
            group = self._readers.get(key, {})
            for reference in tuple(group):
                reader = reference()
                if reader is None or reader.finished:
                    group.pop(reference, None)
                    if not group:
                        self._readers.pop(key, None)
                else:
                    yield reader

    def wants_output(self, job: int) -> bool:
        """Somebody reads this job's output as events."""
        return any(reader.output for reader in self.readers_of(job))

    def add(self, job: int, snapshot: list[Event], *, max_events: int, max_bytes: int, output: bool, over: bool = False) -> EventReader:
        """A new reader that begins with ``snapshot``, numbered here; ``over``: nothing will follow it."""
        reader = EventReader(max_events, max_bytes, output)
        for event in snapshot:
            self._number += 1
            reader.push(replace(event, number=self._number))
        if over or self._closed:
            reader.finish()
        else:
            self._readers.setdefault(job, {})[weakref.ref(reader)] = None
        return reader

    def emit(self, kind: type[Any], job: int, **fields: Any) -> None:
        """Make one event and hand it to its readers; a job's own readers end with its ``Terminated``."""
        if not self._readers:
            return
        self._number += 1
        event = kind(number=self._number, time_ns=native.now_ns(), job=job, **fields)
        for reader in self.readers_of(job):
            if kind is Output and not reader.output:
                continue
            reader.push(event)
        if kind is Terminated:
            self._finish(self._readers.pop(job, {}))

    def close(self) -> None:
        """The supervisor is closed: every reader ends after what it has."""
        self._closed = True
        for group in self._readers.values():
            self._finish(group)
        self._readers.clear()

    def _finish(self, group: Iterable[weakref.ref[EventReader]]) -> None:
        for reference in group:
            if (reader := reference()) is not None:
                reader.finish()
