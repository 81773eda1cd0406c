# SPDX-License-Identifier: Apache-2.0
"""Channel: messages between this event loop and one other process, and again with its successor when it was restarted."""

from __future__ import annotations

import asyncio
import os
from collections import deque

from supervisor.errors import BrokenError, BusyError, ClosedError, TimedOutError
from supervisor.kernel.link import CLOSED_ITS_END
from supervisor.kernel.outgoing import drop
from supervisor.kernel.packet_socket import make_pair
from supervisor.kernel.peer import LANES_VARIABLE, VARIABLE, address_of, answered, body_of, inherited, kind_number
from supervisor.model import frames
from supervisor.model.codec import MSGPACK
from supervisor.model.environment import OwnEnvironment
from supervisor.model.frames import ERROR, JOB_TERMS, REPLY, REQUEST, Terms
from supervisor.model.spec import JobSpec
from supervisor.model.value import replace
from supervisor.runtime.connection import Connection
from supervisor.runtime.sending import Sending
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from supervisor.kernel.outgoing import Outgoing
    from supervisor.kernel.peer import Body
    from supervisor.model.codec import Codec
    from supervisor.model.message import Message
    from supervisor.runtime.job import Job
    from supervisor.runtime.request import Command
    from supervisor.runtime.supervisor import Supervisor


class Channel(Sending):
    """Owns one connection at a time, and the messages that a successor of the other side must get.

    Belongs to one event loop. Any number of tasks may send, request and receive. ``terms`` bound what the other side may have on
    its way to us. Cancelling any call leaves nothing half-done: a message was sent whole or not at all, a received one is lost to nobody.
    """

    def __init__(self, name: str = "job", terms: Terms = Terms()) -> None:
        super().__init__(name)
        self._terms = terms
        self._lanes = False  # the other side is known to understand them before it has said so
        self._starting = False
        self._remains: list[Outgoing] = []  # what a successor must get
        self._last_number = 0
        self._left: deque[Message] = deque()  # received over earlier connections and not taken yet
        self._receivers = Turns()
        self._watch: asyncio.Task[None] | None = None
        #: How many connections there have been.
        self.generation = 0

    # ---- connecting ----

    @classmethod
    def inherit(cls, terms: Terms = JOB_TERMS) -> Channel:
        """The channel to whoever supervises this process, for a job with an event loop; raises :class:`ConfigError`."""
        channel = cls("supervisor", terms)
        fd, channel._lanes = inherited()
        channel.connect(fd)
        return channel

    def connect(self, fd: int) -> None:
        """Take over a connected SOCK_SEQPACKET descriptor and resend what an earlier connection left unacknowledged.

        Raises :class:`BusyError` while there is a connection, :class:`ConfigError` (``fd`` stays the caller's) when it is no channel.
        """
        if self._closed:
            raise ClosedError(f"the channel to {self.name} is closed")
        self._must_be_free()
        connection = Connection(fd, self._terms, self.name, self._receivers, self._senders, self._on_end, self._lanes)
        if self._connection is not None:
            inbox = self._connection.link.inbox
            self._left.extend(inbox)
            inbox.clear()
        self._connection = connection
        connection.outbox.resume(self._last_number, self._remains)
        self._remains = []
        self.generation += 1
        connection.open()

    def _must_be_free(self) -> None:
        if self._starting or not self.broken:
            raise BusyError(f"the channel to {self.name} is connected")

    async def start(self, sup: Supervisor, args: Command | JobSpec, **options: Any) -> Job:
        """Start a job that has the other end, as ``sup.start`` does, and start its successor the same way when it has ended.

        The job finds the descriptor's number in ``RINGFENCE_CHANNEL``. When the job ends the connection ends, whoever else holds it.
        Raises what ``sup.start`` raises, :class:`BusyError` while the channel is connected.
        """
        self._must_be_free()
        ours, theirs = make_pair()
        self._starting = True
        try:
            if isinstance(args, JobSpec):
                job = await sup.start(replace(args, **_passing(args.env, args.pass_fds, theirs)), **options)
            else:
                passing = _passing(options.get("env"), options.get("pass_fds", ()), theirs)
                job = await sup.start(args, **{**options, **passing})
            self._starting = False
            try:
                self.connect(ours)
            except BaseException:  # it was closed meanwhile: a job that nobody can talk to shall not stay
                await job.kill()
                raise
        except BaseException:
            os.close(ours)
            raise
        finally:
            self._starting = False
            os.close(theirs)
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().create_task(self._until_end(job, self._connection))
        return job

    async def _until_end(self, job: Job, connection: Connection | None) -> None:
        outcome = await job.wait()
        if connection is not None and not connection.link.broken:
            connection.read_out()  # what it sent before its end, and usually its end
            connection.fail(f"its job has ended ({outcome.verdict}), another process holds the channel")

    # ---- sending ----

    async def send(
        self, body: Body, *, kind: str = "data", to: str = "", descriptors: Iterable[Any] = (), timeout: float | None = None
    ) -> None:
        """Send one message; waits while the other side has too many that it has not taken.

        ``descriptors`` are duplicated, the caller's stay the caller's. Once this returns the message is the channel's: written now,
        and again to a restarted job unless it was acknowledged. Raises :class:`BrokenError`, :class:`TimedOutError` and
        :class:`ConfigError` (a body larger than the other side takes), each with nothing sent.
        """
        if to or descriptors or not isinstance(body, bytes) or not self._post_plain(body, kind):
            await self.post(kind_number(kind), body_of(body), 0, address_of(to), descriptors, timeout)

    async def send_many(self, bodies: Iterable[Body], *, kind: str = "data", to: str = "") -> None:
        """Send messages in order; the same as :meth:`send` in a loop, in fewer Python calls."""
        for body in bodies:
            await self.send(body, kind=kind, to=to)

    async def send_object(self, item: Any, *, codec: Codec = MSGPACK, kind: str = "data", to: str = "") -> None:
        """Send an object that the other side gets by ``message.object(codec)``; raises what the codec raises."""
        body = codec.encode(item)
        if to or not self._post_plain(body, kind):
            await self.send(body, kind=kind, to=to)

    async def request(
        self, body: Body, *, kind: str = "data", to: str = "", descriptors: Iterable[Any] = (), timeout: float | None = None
    ) -> Message:
        """Send a message and wait for its answer.

        Raises :class:`ReplyError` for an error, :class:`BrokenError` as soon as the other side is gone (the request is not sent again),
        :class:`TimedOutError`. Cancelled or timed out, the answer is dropped when it comes; the other side is not told.
        """
        if timeout is None:
            asked = await self.ask(body, kind=kind, to=to, descriptors=descriptors)
            return answered(await asked, to or self.name)
        try:
            async with asyncio.timeout(timeout):
                asked = await self.ask(body, kind=kind, to=to, descriptors=descriptors)
                return answered(await asked, to or self.name)
        except TimeoutError:
            raise TimedOutError(f"{to or self.name} has not answered within {timeout:g} s") from None

    async def ask(self, body: Body, *, kind: str = "data", to: str = "", descriptors: Iterable[Any] = ()) -> asyncio.Future[Message]:
        """Send a request and return the future of its answer, an answer that is an error included; :meth:`request` in two steps.

        Cancelling the future drops the answer.
        """
        connection, number = await self.post(kind_number(kind), body_of(body), REQUEST, address_of(to), descriptors, None)
        return connection.answer_to(number)

    async def reply(self, message: Message, body: Body, *, descriptors: Iterable[Any] = ()) -> None:
        """Answer a request; waits while very much is on its way out.

        Raises :class:`ConfigError` for a message that wants no answer, :class:`BrokenError` when whoever asked is gone.
        """
        await self._answer(message, body_of(body), REPLY, descriptors)

    async def reply_object(self, message: Message, item: Any, *, codec: Codec = MSGPACK) -> None:
        """Answer a request with an object."""
        await self._answer(message, codec.encode(item), REPLY, ())

    async def refuse(self, message: Message, reason: str) -> None:
        """Answer a request with an error: whoever asked gets :class:`ReplyError` with code ``failed``."""
        await self._answer(message, frames.encode_error(frames.FAILED, reason), REPLY | ERROR, ())

    # ---- receiving ----

    async def receive(self) -> Message:
        """The next message, oldest first. Messages that came before the other side's end come first, then :class:`BrokenError`."""
        while True:
            if self._left:
                return self._left.popleft()
            connection = self._connection
            if connection is not None:
                message = connection.link.next_message()
                if message is not None:
                    return message
                connection.ask_for_more()
                if connection.link.inbox:
                    return connection.link.take()
            self._connected()
            await self._receivers.wait()

    async def receive_many(self, most: int = 1024) -> list[Message]:
        """At least one message and whatever else is there, up to ``most``."""
        found = [await self.receive()]
        while self._left and len(found) < most:
            found.append(self._left.popleft())
        connection = self._connection
        while connection is not None and connection.link.inbox and len(found) < most:
            found.append(connection.link.take())
        return found

    def __aiter__(self) -> Channel:
        """Messages until the other side closes its end; raises :class:`BrokenError` when it breaks the rules."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except BrokenError as error:
            if error.reason == CLOSED_ITS_END:
                raise StopAsyncIteration from None
            raise

    # ---- the end ----

    def _on_end(self, connection: Connection) -> None:
        """Keep what a successor must get."""
        self._last_number = connection.outbox.last_number
        self._remains += connection.outbox.remains()

    async def aclose(self, timeout: float = 1.0) -> None:
        """Write what was sent, as far as the other side takes it within ``timeout`` seconds, and close; safe to call twice.

        Whoever waits gets :class:`ClosedError` or, for an answer, :class:`BrokenError`. What was received and not taken is dropped.
        """
        self._closed = True
        connection, watch = self._connection, self._watch
        if connection is not None and not connection.link.broken:
            connection.link.settle()
            connection.acknowledge()
            self._senders.wake_all()
            try:
                async with asyncio.timeout(timeout):
                    await connection.drain()
            except TimeoutError:
                pass
            finally:
                connection.fail("was closed here")
        self._receivers.wake_all()
        if connection is not None:
            connection.link.inbox.clear()
        self._left.clear()
        drop(self._remains)
        self._remains = []
        if watch is not None:
            self._watch = None
            watch.cancel()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _passing(env: Mapping[Any, Any] | None, pass_fds: Iterable[int], fd: int) -> dict[str, Any]:
    """The two arguments of a start that give a job the descriptor of its channel."""
    added = {VARIABLE: str(fd), LANES_VARIABLE: "1"}
    return {"env": OwnEnvironment(os.environ, added) if env is None else {**env, **added}, "pass_fds": (*pass_fds, fd)}
