# SPDX-License-Identifier: Apache-2.0
"""Peer: the end of a channel inside a job, for ordinary blocking code. Importing it costs a few milliseconds."""

from __future__ import annotations

import os
import select
from time import monotonic_ns

from supervisor.errors import BrokenError, ClosedError, ConfigError, ReplyError, TimedOutError
from supervisor.kernel.descriptor import Descriptor
from supervisor.kernel.link import CLOSED_ITS_END, Link
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.codec import MSGPACK
from supervisor.model.frames import ERROR, JOB_TERMS, REPLY, REQUEST, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final

    from _typeshed import ReadableBuffer

    from supervisor.model.codec import Codec
    from supervisor.model.message import Message

    Body = ReadableBuffer | Sealed

#: Names the descriptor that a job inherits.
VARIABLE: Final = "RINGFENCE_CHANNEL"
#: "1" when the supervisor that set it understands lanes.
LANES_VARIABLE: Final = "RINGFENCE_CHANNEL_LANES"
#: An acknowledgement that nothing else carries is sent this late at most.
ACKNOWLEDGE_LATE_MS: Final = 20
TAKES_NO_MORE: Final = "the other side takes no more"


def inherited() -> tuple[int, bool]:
    """The channel's descriptor that this process was started with, and whether lanes are understood at its other end.

    Raises :class:`ConfigError` when it was started with none. The variables are taken out of the environment: programs that this one
    starts have no channel.
    """
    text, lanes = os.environ.pop(VARIABLE, ""), os.environ.pop(LANES_VARIABLE, "")
    if not text:
        raise ConfigError(f"this process was not started with a channel: {VARIABLE} is not set (or was used already)")
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # ten digits are no int of C, and no descriptor
        raise ConfigError(f"{VARIABLE}: {text!r} is not a descriptor")
    return int(text), lanes == "1"


def connect(terms: Terms = JOB_TERMS) -> Peer:
    """The channel to whoever supervises this process; raises :class:`ConfigError` when there is none."""
    fd, lanes = inherited()
    return Peer(fd, terms, lanes=lanes)


def body_of(body: Body) -> bytes | Sealed:
    """What is sent, as something that its owner cannot change meanwhile. Raises :class:`ConfigError` for what is no bytes."""
    if isinstance(body, (bytes, Sealed)):
        return body
    if isinstance(body, (str, int)):  # bytes(5) would be five zeros
        raise ConfigError(f"body: must be bytes, not {type(body).__name__}; encode text, or use send_object and reply_object")
    return bytes(body)


def kind_number(kind: str) -> int:
    """Raises :class:`ConfigError` for a kind that does not exist."""
    number = frames.KINDS.get(kind)
    if number is None:
        raise ConfigError(f"kind: {kind!r} is none of {', '.join(frames.KINDS)}")
    return number


def address_of(to: str) -> bytes:
    """Raises :class:`ConfigError` for a name that no frame can carry."""
    address = to.encode("utf-8", "surrogateescape")
    if len(address) > frames.ADDRESS_MAX_BYTES:
        raise ConfigError(f"to: a name of {len(address)} bytes is longer than {frames.ADDRESS_MAX_BYTES}")
    return address


def duplicates(descriptors: Iterable[Any]) -> tuple[int, ...]:
    """Descriptors of the caller's (numbers, or objects with ``fileno``) as our own; raises OSError, ConfigError for too many."""
    given = tuple(descriptors)
    if len(given) >= frames.DESCRIPTORS_MAX:
        raise ConfigError(f"descriptors: {len(given)} are more than {frames.DESCRIPTORS_MAX - 1} in one message")
    made: list[int] = []
    try:
        for item in given:
            made.append(os.dup(item if isinstance(item, int) else item.fileno()))
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    return tuple(made)


def answered(message: Message, peer: str) -> Message:
    """The answer to a request; raises what it says when it is an error."""
    error = message.error
    if error is None:
        return message
    raise BrokenError(error[1], peer) if error[0] == "gone" else ReplyError(*error)


class Peer:
    """Owns one connected descriptor; for one thread at a time.

    ``for message in peer`` ends when the other side closes. A message counts as dealt with when it is answered or when the next
    one is asked for: a job that is killed before gets it again when it is restarted. On an exchange ``to`` names another member,
    ``*`` everybody, ``#topic`` the subscribers of a topic; empty, it is the supervisor.
    """

    def __init__(self, fd: int, terms: Terms = Terms(), *, lanes: bool = False) -> None:
        """Takes over ``fd``; ``lanes``: its other end is our supervisor and understands them.

        Raises :class:`ConfigError` when it is no channel.
        """
        self._link = Link(fd, terms, lanes=lanes)
        self._link.acknowledge()
        self._link.flush()

    def fileno(self) -> int:
        """For select(2): readable when a message may be there. Raises :class:`ClosedError` after :meth:`close`."""
        if self._link.fileno() < 0:
            raise ClosedError("the channel is closed")
        return self._link.fileno()

    # ---- sending ----

    def send(self, body: Body, *, kind: str = "data", to: str = "", descriptors: Iterable[Any] = (), timeout: float | None = None) -> None:
        """Send one message; blocks while the other side has too many that it has not taken, or the socket is full.

        ``descriptors`` are duplicated, the caller's stay the caller's. Raises :class:`BrokenError`, :class:`TimedOutError` with
        nothing sent, :class:`ConfigError` for a body larger than the other side takes, OSError without memory or descriptors.
        """
        if timeout is not None:
            self._post_in_time(body, kind, to, descriptors, _deadline(timeout))
        elif to or descriptors or not isinstance(body, bytes) or not self._link.outbox.post_plain(kind_number(kind), body):
            self._post(body, kind, 0, to, descriptors, None)
        self._flush()

    def send_many(self, bodies: Iterable[Body], *, kind: str = "data", to: str = "") -> None:
        """Send many messages with few system calls; for what is at hand already."""
        number, address, link = kind_number(kind), address_of(to), self._link
        for body in bodies:
            if address or not isinstance(body, bytes) or not link.outbox.post_plain(number, body):
                raw = body_of(body)
                sealed = isinstance(raw, Sealed)
                if link.broken or len(raw) > link.outbox.largest or not link.outbox.has_room(len(raw), 0, sealed):
                    self._wait_for_room(len(raw), 0, sealed, None)
                link.outbox.post(number, raw, 0, address)
            if link.outbox.queued_bytes > link.outbox.enough_bytes:
                self._flush()
        self._flush()

    def send_object(self, item: Any, *, codec: Codec = MSGPACK, kind: str = "data", to: str = "") -> None:
        """Send an object that the other side gets by ``message.object(codec)``; raises what the codec raises."""
        self.send(codec.encode(item), kind=kind, to=to)

    def request(
        self, body: Body, *, kind: str = "data", to: str = "", descriptors: Iterable[Any] = (), timeout: float | None = None
    ) -> Message:
        """Send a message and block for its answer; other messages wait for :meth:`receive` meanwhile.

        Raises :class:`ReplyError`, :class:`BrokenError` at once when the other side dies, :class:`TimedOutError`; a late answer is
        dropped.
        """
        due_ns, link = _deadline(timeout), self._link
        number = self._post(body, kind, REQUEST, to, descriptors, due_ns)
        link.pending[number] = number
        try:
            while not link.answered:
                if link.broken:
                    raise BrokenError(link.broken, "supervisor")
                self._wait(due_ns, "no answer")
            ((_, message),) = link.answered
        finally:  # a signal's handler may raise when the answer is there: it must not be taken for the next one's
            link.pending.pop(number, None)
            link.answered.clear()
        return answered(message, to or "supervisor")

    def reply(self, message: Message, body: Body, *, descriptors: Iterable[Any] = ()) -> None:
        """Answer a request. Raises :class:`ConfigError` for a message that wants no answer, :class:`BrokenError`."""
        self._answer(message, body_of(body), REPLY, duplicates(descriptors))

    def reply_object(self, message: Message, item: Any, *, codec: Codec = MSGPACK) -> None:
        """Answer a request with an object."""
        self._answer(message, codec.encode(item), REPLY, ())

    def refuse(self, message: Message, reason: str) -> None:
        """Answer a request with an error: whoever asked gets :class:`ReplyError` with code ``failed``."""
        self._answer(message, frames.encode_error(frames.FAILED, reason), REPLY | ERROR, ())

    def _answer(self, message: Message, body: bytes | Sealed, flags: int, descriptors: tuple[int, ...]) -> None:
        if not message.wants_reply:
            for fd in descriptors:
                os.close(fd)
            raise ConfigError(f"reply: message {message.number} wants no answer")
        self._link.answer(message, body, flags, b"", descriptors)
        self._flush()

    def _post(self, body: Body, kind: str, flags: int, to: str, descriptors: Iterable[Any], due_ns: int | None) -> int:
        number, address, raw = kind_number(kind), address_of(to), body_of(body)
        mine = duplicates(descriptors)
        link, sealed = self._link, isinstance(raw, Sealed)
        if link.broken or len(raw) > link.outbox.largest or not link.outbox.has_room(len(raw), len(mine), sealed):
            try:
                self._wait_for_room(len(raw), len(mine), sealed, due_ns)
            except BaseException:
                for fd in mine:
                    os.close(fd)
                raise
        return link.outbox.post(number, raw, flags, address, mine)

    def _post_in_time(self, body: Body, kind: str, to: str, descriptors: Iterable[Any], due_ns: int | None) -> None:
        """A message that is one packet, when nothing is before it and the socket takes that at once: no part of it can be late.

        A large body is sealed: in a lane half of it could be on its way when time is up.
        """
        raw = body_of(body)
        size = len(raw)
        if isinstance(raw, Sealed) or size <= frames.INLINE_MAX_BYTES:
            self._wait_until_writable(due_ns)
            self._post(raw, kind, 0, to, descriptors, due_ns)
            return
        self._wait_for_room(size, 0, True, due_ns)  # before the copy: it may be too large for the other side
        with Sealed(raw) as sealed:
            self._wait_until_writable(due_ns)
            self._post(sealed, kind, 0, to, descriptors, due_ns)

    def _wait_for_room(self, size: int, descriptors: int, sealed: bool, due_ns: int | None) -> None:
        link = self._link
        while link.broken or not link.outbox.has_room(size, descriptors, sealed):
            self._check()
            self._wait(due_ns, TAKES_NO_MORE)
        if size > link.outbox.largest:
            raise ConfigError(f"body: {size} bytes are more than the {link.outbox.largest} that the other side takes")

    def _flush(self) -> None:
        """Write everything; blocks while the socket or our lane is full, and hears meanwhile what the other side says."""
        link = self._link
        while not link.flush():
            self._poll(self._room_events(), None)
            link.fill()
        if link.broken:
            self._check()

    # ---- receiving ----

    def receive(self, timeout: float | None = None) -> Message:
        """The next message, oldest first; blocks. Raises :class:`BrokenError` at the end, :class:`TimedOutError`."""
        link = self._link
        message = link.next_message()
        if message is not None:
            return message
        if link.settle():
            link.acknowledge()
            link.flush()  # what does not go now goes with the next
        if not link.inbox:
            due_ns = _deadline(timeout)
            while not link.inbox:
                self._check()
                if link.unsaid and not link.broken:
                    link.fill()
                    if link.inbox or link.broken or self._readable_soon(due_ns):
                        continue
                    link.acknowledge()
                self._wait(due_ns, "no message")
        return link.take()

    def __iter__(self) -> Iterator[Message]:
        """Messages until the other side closes its end; raises :class:`BrokenError` when it breaks the rules."""
        while True:
            try:
                message = self.receive()
            except BrokenError:
                if self._link.broken != CLOSED_ITS_END:
                    raise
                return
            yield message

    def serve(self, answer: Callable[[Message], Body | None]) -> None:
        """Answer every request by what ``answer`` returns, until the other side closes.

        An exception is answered with its type and text, and the next request comes. What ``answer`` returns for a message that
        wants no answer is dropped.
        """
        for message in self:
            try:
                body = answer(message)
            except Exception as error:
                if not message.wants_reply:
                    raise
                self.refuse(message, f"{type(error).__name__}: {error}")
            else:
                if message.wants_reply:
                    self.reply(message, b"" if body is None else body)

    # ---- waiting ----

    def _check(self) -> None:
        if self._link.fileno() < 0:
            raise ClosedError("the channel is closed")
        if self._link.broken:
            raise BrokenError(self._link.broken, "supervisor")

    def _readable_soon(self, due_ns: int | None) -> bool:
        """Something comes before an acknowledgement must go on its own."""
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        late_ms = ACKNOWLEDGE_LATE_MS
        return bool(poll.poll(late_ms if due_ns is None else min(late_ms, max(0, due_ns - monotonic_ns()) / 1e6)))

    def _wait(self, due_ns: int | None, what: str) -> None:
        """Write what is queued and block until something was read; raises :class:`TimedOutError`."""
        link = self._link
        if not link.flush():
            self._poll(self._room_events(), due_ns, what)
            link.fill()
        elif due_ns is None:
            link.fill(wait=True)
        else:
            self._poll(select.POLLIN, due_ns, what)
            link.fill()

    def _room_events(self) -> int:
        """What to wait for when not everything could be written."""
        return select.POLLIN | select.POLLOUT if self._link.needs_socket else select.POLLIN

    def _wait_until_writable(self, due_ns: int | None) -> None:
        """Write what is queued, and block until one more packet can be written at once; raises :class:`TimedOutError`."""
        link = self._link
        while True:
            self._check()
            done = link.flush()
            ready = self._poll(select.POLLIN | select.POLLOUT if done else self._room_events(), due_ns, TAKES_NO_MORE)
            if done and ready & select.POLLOUT:
                return
            link.fill()

    def _poll(self, events: int, due_ns: int | None, what: str = "") -> int:
        """What the socket is ready for."""
        poll = select.poll()
        poll.register(self._link.fileno(), events)
        rest = None if due_ns is None else max(0, due_ns - monotonic_ns()) / 1e6
        ready = poll.poll(rest)
        if not ready and due_ns is not None and monotonic_ns() >= due_ns:
            raise TimedOutError(f"{what} within the time-out")
        return ready[0][1] if ready else 0

    # ---- the end ----

    def close(self) -> None:
        """Close our end; the other side gets everything that was sent. Safe to call twice.

        In a process that was forked from the one that connected it closes its copy alone: the connection goes on.
        """
        if self._link.is_ours:
            self._link.settle()
            self._link.acknowledge()
            self._link.flush()
        self._link.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _deadline(timeout: float | None) -> int | None:
    return None if timeout is None else monotonic_ns() + int(timeout * 1e9)


__all__ = ["Descriptor", "Peer", "connect"]
