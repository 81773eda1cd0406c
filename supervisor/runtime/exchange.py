# SPDX-License-Identifier: Apache-2.0
"""Exchange: messages between the supervisor and many jobs, and between those, by name."""

from __future__ import annotations

import asyncio
from collections import deque

from supervisor.errors import BrokenError, BusyError, ClosedError, ConfigError
from supervisor.kernel.peer import body_of, kind_number
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.address import EVERYBODY, check_name, check_topic, is_many
from supervisor.model.codec import MSGPACK
from supervisor.model.frames import INLINE_MAX_BYTES, Terms
from supervisor.model.value import replace
from supervisor.runtime.member import Member
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    from supervisor.kernel.peer import Body
    from supervisor.model.codec import Codec
    from supervisor.model.message import Message
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.channel import Channel
    from supervisor.runtime.job import Job
    from supervisor.runtime.request import Command
    from supervisor.runtime.supervisor import Supervisor

#: Messages to the supervisor that nobody has received yet; whoever sends more waits.
INBOX_MESSAGES: Final = 1024
#: How long a message of a job may wait for a job that takes none, before its sender is told ``busy``.
PATIENCE_S: Final = 1.0


class Exchange:
    """Owns a channel for each of its members and carries messages between them; leaving the scope closes all.

    The name under which a message arrives is the one the exchange knows its sender by: a frame has no field in which a job could
    say another. ``allow(sender, to)`` decides what may be sent (``to`` is a name, ``*`` or a topic; empty: the supervisor);
    without it everything may, and when it raises, the message is refused. A member that does not take its messages keeps only
    those back that are for it.
    """

    def __init__(self, *, allow: Callable[[str, str], bool] | None = None, patience: float = PATIENCE_S, terms: Terms = Terms()) -> None:
        self._members: dict[str, Member] = {}
        self._allow = allow
        self._patience = patience
        # What is large is carried on as it stands, without a copy, in memory of whoever sent it.
        self._terms = replace(terms, lane_max_bytes=min(terms.lane_max_bytes, INLINE_MAX_BYTES))
        self._inbox: deque[Message] = deque()
        self._readers = Turns()
        self._writers = Turns()
        self._closed = False

    # ---- members ----

    @property
    def members(self) -> tuple[str, ...]:
        """The names, connected or not."""
        return tuple(self._members)

    def broken(self, name: str) -> str:
        """Why this member cannot be reached now; empty when it can. Raises :class:`ConfigError` for a name that is none."""
        return self._member(name).channel.broken

    def missed(self, name: str) -> int:
        """Messages to many that this member has not taken in time; raises :class:`ConfigError` for a name that is none."""
        return self._member(name).missed

    def add(self, name: str, fd: int, *, topics: Iterable[str] = ()) -> None:
        """Take over a connected descriptor as the member ``name``, or again after its connection broke.

        Raises :class:`ConfigError` for a bad name, :class:`BusyError` while a member of that name is connected; ``fd`` stays the
        caller's then.
        """
        member = self._prepare(name, topics)
        try:
            member.channel.connect(fd)
        except BaseException:
            self._discard(member)
            raise
        self._carry(member)

    async def start(self, sup: Supervisor, name: str, args: Command | JobSpec, *, topics: Iterable[str] = (), **options: Any) -> Job:
        """Start a job as the member ``name``, or its successor after it ended, which gets what its predecessor had not dealt with.

        Raises what ``sup.start`` raises, :class:`ConfigError` for a bad name, :class:`BusyError` while that member is connected.
        """
        member = self._prepare(name, topics)
        try:
            job = await member.channel.start(sup, args, **options)
        except BaseException:
            self._discard(member)
            raise
        self._carry(member)
        return job

    async def remove(self, name: str) -> None:
        """Close the connection to a member and forget its name; raises :class:`ConfigError` for a name that is none."""
        member = self._member(name)
        del self._members[name]
        await member.aclose()

    def subscribe(self, name: str, topic: str) -> None:
        """Let a member get what is sent to a topic, such as ``#prices``; raises :class:`ConfigError`."""
        self._member(name).topics.add(check_topic(topic))

    def unsubscribe(self, name: str, topic: str) -> None:
        """The opposite; without effect when it was not subscribed."""
        self._member(name).topics.discard(topic)

    def _member(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            raise ConfigError(f"to: there is no member {name!r}")
        return member

    def _prepare(self, name: str, topics: Iterable[str]) -> Member:
        if self._closed:
            raise ClosedError("the exchange is closed")
        member = self._members.get(name)
        if member is None:
            topics = [check_topic(topic) for topic in topics]
            member = self._members[check_name(name)] = Member(name, self._terms, topics)
        elif not member.channel.broken:
            raise BusyError(f"the member {name!r} is connected")
        else:
            member.topics.update(map(check_topic, topics))
        return member

    def _discard(self, member: Member) -> None:
        """It was never connected: its name is free again."""
        if member.channel.generation == 0 and self._members.get(member.name) is member:
            del self._members[member.name]

    def _carry(self, member: Member) -> None:
        if member.pump is None or member.pump.done():
            member.pump = asyncio.get_running_loop().create_task(self._pump(member))

    # ---- the supervisor's own messages ----

    async def send(self, to: str, body: Body, *, kind: str = "data", descriptors: Iterable[Any] = (), timeout: float | None = None) -> None:
        """Send to one member; as :meth:`Channel.send`, and :class:`ConfigError` for a name that is none."""
        await self._member(to).channel.send(body, kind=kind, descriptors=descriptors, timeout=timeout)

    async def send_object(self, to: str, item: Any, *, codec: Codec = MSGPACK, kind: str = "data") -> None:
        """Send an object to one member."""
        await self.send(to, codec.encode(item), kind=kind)

    async def request(
        self, to: str, body: Body, *, kind: str = "data", descriptors: Iterable[Any] = (), timeout: float | None = None
    ) -> Message:
        """Ask one member and wait for its answer; as :meth:`Channel.request`."""
        return await self._member(to).channel.request(body, kind=kind, descriptors=descriptors, timeout=timeout)

    async def broadcast(self, body: Body, *, topic: str = "", kind: str = "data") -> tuple[str, ...]:
        """Send to every connected member, or to the subscribers of a topic; the names of those who took it.

        Waits for each as long as the exchange's patience; who has not taken it by then misses it (``missed``). A large body is copied
        once, whatever the number of members.
        """
        to = self._audience(check_topic(topic) if topic else EVERYBODY, "")
        return await self._spread(to, body_of(body), kind_number(kind), "", ())

    async def receive(self) -> Message:
        """The next message that a member sent to the supervisor (or to everybody); ``message.sender`` is its name."""
        while not self._inbox:
            if self._closed:
                raise ClosedError("the exchange is closed")
            await self._readers.wait()
        message = self._inbox.popleft()
        self._writers.wake()
        return message

    def __aiter__(self) -> Exchange:
        """Messages to the supervisor until the exchange is closed."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ClosedError:
            raise StopAsyncIteration from None

    async def reply(self, message: Message, body: Body, *, descriptors: Iterable[Any] = ()) -> None:
        """Answer a member's request; raises :class:`BrokenError` when whoever asked is gone, a successor of the same name too."""
        await self._asker(message).reply(message, body, descriptors=descriptors)

    async def reply_object(self, message: Message, item: Any, *, codec: Codec = MSGPACK) -> None:
        """Answer a member's request with an object."""
        await self._asker(message).reply(message, codec.encode(item))

    async def refuse(self, message: Message, reason: str) -> None:
        """Answer a member's request with an error."""
        await self._asker(message).refuse(message, reason)

    def _asker(self, message: Message) -> Channel:
        member = self._members.get(message.sender)
        if member is None:
            raise BrokenError("whoever asked is gone", message.sender)
        return member.channel

    # ---- carrying ----

    async def _pump(self, member: Member) -> None:
        """Carry on what one member sends, in its order, until its connection is over."""
        channel = member.channel
        while True:
            try:
                message = await channel.receive()
            except (BrokenError, ClosedError):
                return
            await self._carry_on(member, message)

    def _allows(self, sender: str, to: str) -> bool:
        """What the caller's function says; one that raises has not said yes, and its exception goes to the event loop's handler."""
        if self._allow is None:
            return True
        try:
            return bool(self._allow(sender, to))
        except Exception as error:
            told = {"message": f"allow({sender!r}, {to!r}) of an exchange has raised; the message was refused", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
            return False

    async def _carry_on(self, member: Member, message: Message) -> None:
        to = message.sender  # on its way to us this field is the address; on its way on it is ours to fill
        if message.error is not None:
            return
        if not self._allows(member.name, to):
            member.tell(message, frames.REFUSED, f"{member.name} may not send to {to or 'the supervisor'}")
        elif not to:
            await self._keep(message.readdressed(member.name))
        elif is_many(to):
            if message.wants_reply:
                member.tell(message, frames.REFUSED, "a request goes to one member, not to many")
                return
            await self._spread(self._audience(to, member.name), message.content, message.kind_number, member.name, message.descriptors)
            if to == EVERYBODY:
                await self._keep(message.readdressed(member.name))
        elif (target := self._members.get(to)) is None:
            member.tell(message, frames.UNKNOWN, f"there is no member {to!r}")
        else:
            await member.forward(message, target, self._patience)

    async def _keep(self, message: Message) -> None:
        """For the supervisor; the sender waits while too many are kept."""
        place = self._writers.place()
        while len(self._inbox) >= INBOX_MESSAGES and not self._closed:
            await self._writers.wait(place)
        self._inbox.append(message)
        self._readers.wake()

    async def _spread(self, to: list[Member], body: bytes | Sealed, kind: int, sender: str, descriptors: Iterable[Any]) -> tuple[str, ...]:
        """To many, all at the same time, each as long as patience lasts; the names of those who took it."""
        shared = Sealed(body) if isinstance(body, bytes) and len(body) > INLINE_MAX_BYTES else body
        try:
            taken = await asyncio.gather(*(member.give_one_of_many(kind, shared, sender, descriptors, self._patience) for member in to))
        finally:
            if isinstance(shared, Sealed) and shared is not body:
                shared.close()
        return tuple([member.name for member, took in zip(to, taken, strict=True) if took])

    def _audience(self, to: str, sender: str) -> list[Member]:
        return [
            member
            for member in self._members.values()
            if member.name != sender and not member.channel.broken and (to == EVERYBODY or to in member.topics)
        ]

    # ---- the end ----

    async def aclose(self) -> None:
        """Close every channel; safe to call twice. Whoever waits for an answer gets :class:`BrokenError`."""
        self._closed = True
        members = list(self._members.values())
        self._members.clear()
        self._readers.wake_all()
        self._writers.wake_all()
        await asyncio.gather(*(member.aclose() for member in members))
        self._inbox.clear()

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
