# SPDX-License-Identifier: Apache-2.0
"""Member: one name on an exchange, and the ways of giving it something."""

from __future__ import annotations

import asyncio

from supervisor.errors import BrokenError, ClosedError, ConfigError, TimedOutError
from supervisor.model import frames
from supervisor.model.frames import ERROR, REPLY, REQUEST, Terms
from supervisor.runtime.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from supervisor.kernel.sealed import Sealed
    from supervisor.model.message import Message
    from supervisor.runtime.connection import Connection

#: Requests of one member that others have not answered yet.
REQUESTS_MAX: Final = 1024


class Member:
    """Owns the channel to one job and the task that carries on what it sends."""

    __slots__ = ("channel", "missed", "name", "pump", "requests", "slow", "topics")

    def __init__(self, name: str, terms: Terms, topics: Iterable[str]) -> None:
        self.name = name
        self.channel = Channel(name, terms)
        self.topics = set(topics)
        self.pump: asyncio.Task[None] | None = None
        self.requests = 0  # of its own, open at others
        self.slow = False  # let somebody wait in vain, and has taken nothing since
        self.missed = 0  # messages to many that it has not taken in time

    async def give(
        self, kind: int, body: bytes | Sealed, flags: int, sender: str, descriptors: Iterable[Any], patience: float
    ) -> tuple[Connection, int]:
        """Send it a message of another member: its connection and the message's number there.

        Waits as long as ``patience`` for room, not at all when it was waited for in vain before. Raises :class:`TimedOutError`,
        :class:`BrokenError`, :class:`ClosedError`, :class:`ConfigError` (too big), OSError (no descriptors).
        """
        wait_s = 0.0 if self.slow else patience
        try:
            given = await self.channel.post(kind, body, flags, sender.encode(), descriptors, wait_s)
        except TimedOutError:
            self.slow = True
            raise
        self.slow = False
        return given

    async def give_one_of_many(self, kind: int, body: bytes | Sealed, sender: str, descriptors: Iterable[Any], patience: float) -> bool:
        """The same for a message to many: who cannot take it misses it."""
        try:
            await self.give(kind, body, 0, sender, descriptors, patience)
        except (BrokenError, ClosedError, ConfigError, TimedOutError, OSError):
            self.missed += 1
            return False
        return True

    async def forward(self, message: Message, target: Member, patience: float) -> None:
        """Give a message of this member to another one; when that fails this one is told."""
        if message.wants_reply and self.requests >= REQUESTS_MAX:
            self.tell(message, frames.REFUSED, f"{self.requests} requests are not answered yet")
            return
        flags = REQUEST if message.wants_reply else 0
        try:
            connection, number = await target.give(message.kind_number, message.content, flags, self.name, message.descriptors, patience)
        except TimedOutError:
            self.tell(message, frames.BUSY, f"{target.name} takes no messages")
        except (BrokenError, ClosedError) as error:
            self.tell(message, frames.GONE, str(error))
        except (ConfigError, OSError) as error:
            self.tell(message, frames.REFUSED, str(error))
        else:
            if message.wants_reply:
                self._expect(message, target, connection.answer_to(number))

    def _expect(self, message: Message, target: Member, answer: asyncio.Future[Message]) -> None:
        """Carry the answer back when it comes, or say that none will."""
        self.requests += 1

        def done(_: object) -> None:
            self.requests -= 1
            if answer.cancelled():
                return
            if answer.exception() is not None:
                self.tell(message, frames.GONE, f"{target.name} is gone")
                return
            found = answer.result()
            try:
                self.channel.pass_answer(message, found.content, found.flags & (REPLY | ERROR), found.descriptors)
            except (ConfigError, OSError) as error:
                self.tell(message, frames.REFUSED, f"the answer cannot be carried: {error}")

        answer.add_done_callback(done)

    def tell(self, message: Message, code: int, text: str) -> None:
        """Tell this member that its message went nowhere."""
        flags = ERROR | REPLY if message.wants_reply else ERROR
        self.channel.pass_answer(message, frames.encode_error(code, text), flags, ())

    async def aclose(self) -> None:
        """Close the channel and end the task."""
        await self.channel.aclose()
        pump, self.pump = self.pump, None
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
            await asyncio.wait([pump])
