# SPDX-License-Identifier: Apache-2.0
"""Rings on an event loop: the same ends, with a coroutine beside each call that may wait.

asyncio is imported by the coroutines alone, so that a job which only blocks does not pay for it.
"""

from __future__ import annotations

from supervisor.errors import BusyError
from supervisor.kernel import ring
from supervisor.kernel.ring_ends import BATCH_MESSAGES, ReaderEnd, RingEnd, WriterEnd
from supervisor.runtime.pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Sequence

    from supervisor.kernel.ring_ends import Bytes


async def _ready(end: RingEnd, size: int = 0) -> None:
    """Until a message, or room for one of ``size`` bytes, may be there. Cancellation leaves nothing behind."""
    import asyncio

    if end.waiting:
        raise BusyError(f"another task waits at this end of ring {end.name}")
    end.waiting = True
    loop = asyncio.get_running_loop()
    fd = end.fileno()
    try:
        while not end.arm(size):
            woken = loop.create_future()
            loop.add_reader(fd, _wake, woken)
            try:
                await woken
            finally:
                loop.remove_reader(fd)
                end.disarm()
    finally:
        end.waiting = False


async def _give_way(end: RingEnd) -> None:
    """Let the event loop run once."""
    import asyncio

    if end.waiting:
        raise BusyError(f"another task waits at this end of ring {end.name}")
    end.waiting = True
    try:
        await asyncio.sleep(0)
    finally:
        end.waiting = False


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class RingWriter(WriterEnd):
    """The writing end of a ring, blocking and on an event loop."""

    async def put(self, message: Bytes) -> None:
        """:meth:`write` that lets the event loop run while it waits. Cancelled: nothing was written."""
        while not self.try_write(message):
            await _ready(self, len(message))

    async def put_many(self, messages: Sequence[Bytes]) -> None:
        """:meth:`write_many` that lets the event loop run while it waits. Cancelled: some were written, from the first on."""
        done = 0
        while (done := done + self.write_many(messages[done:] if done else messages, timeout=0)) < len(messages):
            await _ready(self, len(messages[done]))


class RingReader(ReaderEnd):
    """The reading end of a ring, blocking and on an event loop."""

    def __init__(self, name: str, fd: int, capacity: int, broadcast: bool, cell: int, socket: int) -> None:
        super().__init__(name, fd, capacity, broadcast, cell, socket)
        self._pace = Pace()

    async def get(self) -> bytes:
        """:meth:`read` that lets the event loop run while it waits. Cancelled: the message stays."""
        return (await self.get_many(1))[0]

    async def get_many(self, max_messages: int = BATCH_MESSAGES) -> list[bytes]:
        """:meth:`read_many` that lets the event loop run while it waits: at least one message. Cancelled: they stay."""
        if self._pace.is_over():
            await _give_way(self)
        while not (messages := self.read_many(max_messages, timeout=0)):
            await _ready(self)
            self._pace.waited()
        return messages

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages until the writer closes its end; raises BrokenError when it died."""
        while True:
            try:
                messages = await self.get_many()
            except EOFError:
                return
            for message in messages:
                yield message


class Ring(ring.Ring):
    """Owns one ring's memory and the ends nobody has taken; see :class:`supervisor.kernel.ring.Ring`."""

    def writer(self) -> RingWriter:
        """The writing end, in this process; seals the ring. Raises BusyError when it is taken, OSError, ClosedError."""
        return self.take_writer(RingWriter)

    def reader(self, number: int = 0) -> RingReader:
        """The ``number``-th reading end, in this process. Raises BusyError when it is taken, OSError, ClosedError."""
        return self.take_reader(number, RingReader)
