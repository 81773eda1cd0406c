# SPDX-License-Identifier: Apache-2.0
"""Sending: what a channel does with messages and answers until they are the connection's."""

from __future__ import annotations

import asyncio

from supervisor.errors import BrokenError, ClosedError, ConfigError, TimedOutError
from supervisor.kernel.link import OUT_HIGH_BYTES
from supervisor.kernel.outgoing import close_all
from supervisor.kernel.peer import duplicates
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.frames import KINDS
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final, TypeGuard

    from supervisor.model.message import Message
    from supervisor.runtime.connection import Connection

#: Above this another thread seals a body: copying takes a quarter of a millisecond for each mebibyte, more where memory is slow.
ASIDE_BYTES: Final = 4 << 20
#: Answers to one member of an exchange that it does not take.
ANSWERS_MAX_BYTES: Final = 4 << 20


class Sending:
    """Owns the line of those who wait to send over a channel's connection, and the place of whoever is at its head.

    Messages go in the order in which their senders came, also when each has to wait for room.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection: Connection | None = None  # stays when it is over, until there is a next one
        self._closed = False
        self._senders = Turns()
        self._sealing = False  # a large body, by another thread: everybody else waits

    @property
    def broken(self) -> str:
        """Why there is no connection now; empty while there is one."""
        return "is not connected yet" if self._connection is None else self._connection.link.broken

    def _post_plain(self, body: bytes, kind: str) -> bool:
        """Send a message that needs nothing special; False when it needs something, room among it."""
        connection, number = self._connection, KINDS.get(kind)
        if connection is None or number is None or self._senders or self._sealing or not connection.outbox.post_plain(number, body):
            return False
        if not connection.flush_is_due or connection.outbox.queued_bytes > connection.outbox.enough_bytes:
            connection.schedule()
        return True

    async def post(
        self, kind: int, body: bytes | Sealed, flags: int, address: bytes, descriptors: Iterable[Any], timeout: float | None
    ) -> tuple[Connection, int]:
        """Send with everything as it goes on the wire: the connection and the message's number on it. For an exchange."""
        mine = duplicates(descriptors) if descriptors else ()
        size, connection = len(body), self._connection
        free = connection is not None and not self._senders and not self._sealing and not connection.link.broken
        sealed = isinstance(body, Sealed)
        quick = connection is not None and size <= connection.outbox.largest and not _goes_aside(body, len(mine), connection)
        if free and quick and connection is not None and not connection.outbox.has_room(size, len(mine), sealed):
            free = connection.hear_early() and not self._senders
        if connection is None or not free or not quick or not connection.outbox.has_room(size, len(mine), sealed):
            try:
                connection, body = await self._ready(body, len(mine), timeout)
            except BaseException:
                close_all(mine)
                raise
        try:
            number = connection.outbox.post(kind, body, flags, address, mine)
        except BaseException:  # no descriptors: the turn is the next one's
            self._senders.wake()
            raise
        connection.schedule()
        return connection, number

    async def _ready(self, body: bytes | Sealed, descriptors: int, timeout: float | None) -> tuple[Connection, bytes | Sealed]:
        """Wait until the message may be sent, and seal a body whose copying would hold the event loop up."""
        if timeout is not None:
            try:
                async with asyncio.timeout(timeout):
                    return await self._ready(body, descriptors, None)
            except TimeoutError:
                raise TimedOutError(f"{self.name} takes no more messages; nothing was sent within {timeout:g} s") from None
        place = self._senders.place()
        connection = await self._room(body, descriptors, place)
        if _goes_aside(body, descriptors, connection):
            self._sealing = True  # it stays our turn
            try:
                body = await _sealed_aside(body)
            except BaseException:
                self._senders.wake()
                raise
            finally:
                self._sealing = False
            connection = await self._room(body, descriptors, place)
        return connection, body

    async def _room(self, body: bytes | Sealed, descriptors: int, place: int) -> Connection:
        """Wait, in order of arrival, until a message with this body may be sent."""
        size, sealed = len(body), isinstance(body, Sealed)
        while True:
            connection = self._connected()
            if self._senders.is_next(place) and not self._sealing and connection.outbox.has_room(size, descriptors, sealed):
                break
            await self._senders.wait(place)
        if size > connection.outbox.largest:
            self._senders.wake()
            raise ConfigError(f"body: {size} bytes are more than the {connection.outbox.largest} that {self.name} takes")
        return connection

    def _connected(self) -> Connection:
        """The connection; raises when nothing can be sent over it."""
        if self._closed:
            raise ClosedError(f"the channel to {self.name} is closed")
        if self._connection is None or self._connection.link.broken:
            raise BrokenError(self.broken, self.name)
        return self._connection

    # ---- answers ----

    async def _answer(self, message: Message, body: bytes | Sealed, flags: int, descriptors: Iterable[Any]) -> None:
        if not message.wants_reply:
            raise ConfigError(f"reply: message {message.number} wants no answer")
        if isinstance(body, bytes) and len(body) > ASIDE_BYTES:
            body = await _sealed_aside(body)
        connection = self._asker(message)
        place = 0 if connection is None else connection.writers.place()
        while connection is not None and connection.outbox.answers_bytes > OUT_HIGH_BYTES:
            await connection.writers.wait(place)  # not among the senders: these may wait for an application that waits for this answer
            connection = self._asker(message)
        if connection is None:
            raise BrokenError("whoever asked is gone", self.name)
        connection.link.answer(message, body, flags, b"", duplicates(descriptors))
        connection.schedule()

    def _asker(self, message: Message) -> Connection | None:
        """The connection that a message came over, if it is still there."""
        connection = self._connection
        gone = connection is None or connection.link is not message.origin or connection.link.broken
        return None if gone else connection

    def pass_answer(self, message: Message, body: bytes | Sealed, flags: int, descriptors: Iterable[Any]) -> None:
        """Queue an answer of somebody else, for an exchange, which must not wait; dropped when whoever asked is gone.

        Who asks much and takes no answers is cut off. Raises OSError (no descriptors).
        """
        connection = self._asker(message)
        if connection is None:
            return
        if connection.outbox.answers_bytes > ANSWERS_MAX_BYTES or connection.outbox.special > frames.DESCRIPTORS_IN_FLIGHT:
            connection.fail("takes no answers to what it asks")
            return
        connection.link.answer(message, body, flags, b"", duplicates(descriptors))
        connection.schedule()


def _goes_aside(body: bytes | Sealed, descriptors: int, connection: Connection) -> TypeGuard[bytes]:
    """It must be sealed, and is so large that another thread should."""
    return isinstance(body, bytes) and len(body) > ASIDE_BYTES and not connection.outbox.takes_by_lane(len(body), descriptors)


async def _sealed_aside(body: bytes) -> Sealed:
    """The body sealed, the event loop going on meanwhile; cancelled, the memory is freed when the thread is done."""
    return await asyncio.get_running_loop().run_in_executor(None, Sealed, body)
