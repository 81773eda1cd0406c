# SPDX-License-Identifier: Apache-2.0
"""Link: one end of a channel's socket and its receiving half; it waits for nothing unless told to.

Two drivers use it: ``Peer`` (blocking, for jobs) and ``Channel`` (asyncio). The rules are in docs/reference/wire.md.
"""

from __future__ import annotations

import _socket  # the C module: ``socket`` around it costs 8 ms to import, which a job would pay
import errno
import os

from supervisor.errors import ConfigError
from supervisor.kernel.descriptor import Descriptor
from supervisor.kernel.lane_receiver import LaneReceiver
from supervisor.kernel.native import PACKETS_END, PACKETS_MORE, Packets, close_socket
from supervisor.kernel.outbox import PLAIN_MAX_BYTES, Outbox
from supervisor.kernel.outgoing import close_all
from supervisor.kernel.packet_socket import send_packet
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.frames import (
    ACK,
    ERROR,
    HEADER_BYTES,
    INLINE_MAX_BYTES,
    LANE,
    LANE_FRAME_BYTES,
    LANE_PLACE,
    LANE_WORDS,
    PLAIN_HEADER,
    PLAIN_WORDS,
    REPLY,
    Terms,
    charge_of,
    decode,
)
from supervisor.model.message import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any, Final

    from supervisor.model.frames import Frame
else:
    from _collections import deque  # the C type: the module around it costs 1.5 ms to import

#: What waits to be written above this stops the reading of more requests.
OUT_HIGH_BYTES: Final = 1 << 20
CLOSED_ITS_END: Final = "closed its end, or died"

_new = tuple.__new__
_unpack_plain = PLAIN_HEADER.unpack_from
_unpack_place = LANE_PLACE.unpack_from


class Link:
    """Owns one connected SOCK_SEQPACKET descriptor, and the descriptors of messages that nobody has taken.

    ``broken`` is empty while the other side is there and keeps to the rules, else says why not. Messages that came
    before are still in ``inbox``.
    """

    __slots__ = (
        "_handed",
        "_inbox_bytes",
        "_inbox_errors",
        "_inbox_fds",
        "_large_bytes",
        "_large_number",
        "_last_received",
        "_most_messages",
        "_owner",
        "_packets",
        "_quarter_bytes",
        "_quarter_messages",
        "_said",
        "_settled",
        "_socket",
        "_terms",
        "_theirs",
        "_unsaid_bytes",
        "answered",
        "broken",
        "inbox",
        "lane",
        "outbox",
        "pending",
    )

    def __init__(self, fd: int, terms: Terms = Terms(), *, lanes: bool = False) -> None:
        """Takes over ``fd``. ``lanes``: the other side is our supervisor and understands them; else we wait until it has spoken of them.

        Raises :class:`ConfigError` when it is not such a socket; ``fd`` stays the caller's then.
        """
        try:
            self._socket = _socket.socket(fileno=fd)
            os.set_inheritable(fd, False)
        except OSError as error:
            raise ConfigError(f"descriptor {fd} is not a channel: {error.strerror}") from None
        if self._socket.family != _socket.AF_UNIX or self._socket.type & 0xF != _socket.SOCK_SEQPACKET:
            self._socket.detach()
            raise ConfigError(f"descriptor {fd} is not a channel: it is no unix socket of type SOCK_SEQPACKET")
        self._owner = os.getpid()
        self._terms = terms
        self._theirs = b""  # the other side's terms, as they came
        self.broken = ""
        self._packets = Packets(frames.PACKET_MAX_BYTES)
        self.outbox = Outbox()
        self.inbox: deque[Message] = deque()
        self._inbox_bytes = 0  # without errors, which need no room in the window
        self._inbox_errors = 0
        self._inbox_fds = 0
        self._most_messages = max(terms.window_messages, frames.FIRST_MESSAGES)  # what whoever has not heard our terms may send
        self._last_received = 0
        self._handed = 0  # given to the application
        self._settled = 0  # which then asked for more: it is done with those before
        self._said = -1  # the last acknowledgement; -1: not even our terms were said
        self._unsaid_bytes = 0
        self._large_number = self._large_bytes = 0  # of the last large body handed out: another's acknowledgement leaves it unsaid
        self._quarter_bytes = terms.window_bytes // 4
        self._quarter_messages = max(1, terms.window_messages // 4)
        #: Requests of ours by number; answers are moved out together with what stood for the request.
        self.pending: dict[int, Any] = {}
        self.answered: list[tuple[Any, Message]] = []
        self.lane = LaneReceiver(terms, trusting=lanes)
        if lanes:
            self.outbox.say(self.lane.offer())

    def fileno(self) -> int:
        """-1 once closed."""
        return self._socket.fileno()

    # ---- sending ----

    def answer(
        self, message: Message, body: bytes | Sealed, flags: int = REPLY, address: bytes = b"", descriptors: tuple[int, ...] = ()
    ) -> None:
        """Queue the answer to a request (or the error of a message). It needs no room: whoever asks keeps room for it."""
        number = message.number
        if self._said < number <= self._handed:  # an answer acknowledges what it answers
            self._said = number
            self._settled = max(self._settled, number)
            self._unsaid_bytes = self._large_bytes if self._large_number > number else 0
            self._take_word_along()
        self.outbox.answer(message.kind_number, number, body, flags, address, descriptors)

    def acknowledge(self) -> None:
        """Queue an acknowledgement of what the application is done with, and our terms, unless both were said, and our word on the lane."""
        if self._settled > self._said:
            self._said = self._settled
            self._unsaid_bytes = self._large_bytes if self._large_number > self._said else 0
            self.outbox.acknowledge(self._settled, self._terms)
        self._take_word_along()

    def _take_word_along(self) -> None:
        """Queue what we have copied, but not behind a large body: it may wait for the other side's word, as that side's may for ours."""
        if not self.outbox.lane.large:
            self.outbox.say(self.lane.word())

    def flush(self) -> bool:
        """Write what is queued; True when nothing is left. False: come again when the socket is writable (:attr:`needs_socket`), or
        after something was read.
        """
        outbox = self.outbox
        self.lane.say(self._socket)
        if outbox.queue and (self._settled > self._said or self.lane.memory is not None):
            self.acknowledge()  # goes along for nothing
        while outbox.queue:
            packet, descriptors, count = outbox.next_packet()
            if not packet:
                return bool(self.broken)  # nobody copies any more: the lane stays full
            try:
                send_packet(self._socket, packet, descriptors)
            except BlockingIOError:
                return False
            except OSError as error:
                outbox.hang_up()
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # those: reading tells the end, after what came before it
                    self.fail(f"cannot be written to: {error.strerror}")
                return True
            outbox.written(count)
        return not self.lane.word_waits

    @property
    def needs_socket(self) -> bool:
        """After a :meth:`flush` that was not all: it is the socket that was full, not our lane alone."""
        return self.lane.word_waits or not self.outbox.lane.blocked

    # ---- receiving ----

    def fill(self, wait: bool = False) -> bool:
        """Read what is there, up to a quarter of a megabyte, so that a busy peer starves nobody. ``wait``: block for the first.

        True when there may be more. Sets ``broken`` at the end of file and when the other side breaks a rule.
        """
        if self.broken:
            return False
        state, plain, special = self._packets.receive(self._socket.fileno(), wait)
        try:
            if plain:
                self._receive_packets(plain)
            if special:
                self._receive_special(plain, special)
            self.lane.say(self._socket)
        except ConfigError as error:
            self.fail(f"broke the rules: {error}")
        if state == PACKETS_END:
            self.fail(CLOSED_ITS_END)
        elif state < 0 and state != -errno.EINTR:
            self.fail(f"cannot be read from: {os.strerror(-state)}")
        return state == PACKETS_MORE and not self.broken

    def _receive_packets(self, length: int) -> None:
        """Packets without descriptors; raises :class:`ConfigError`. Plain messages are taken as they stand, until another one comes."""
        packets, append, last, at, laid = self._packets.buffer, self.inbox.append, self._last_received, 0, 0
        lane = self.lane.memory
        while at + HEADER_BYTES <= length:
            size, word, number = _unpack_plain(packets, at)
            end = at + size
            if size == LANE_FRAME_BYTES and word in LANE_WORDS and lane is not None and last < number and end <= length:
                whole, part = _unpack_place(packets, at + HEADER_BYTES)
                if whole > INLINE_MAX_BYTES or whole != part or lane.is_busy:
                    break
                laid += whole - LANE_PLACE.size
                self._check_room(end + laid)  # now: a packet of such frames stands for a gigabyte
                append(_new(Message, (LANE_WORDS[word], 0, number, "", lane.take(whole, part, True), self, None, ())))
                last, at = number, end
                continue
            if word not in PLAIN_WORDS or number <= last or end > length or not HEADER_BYTES <= size <= PLAIN_MAX_BYTES:
                break
            append(_new(Message, (word, 0, number, "", packets[at + HEADER_BYTES : end], self, None, ())))
            last, at = number, end
        self._last_received = last
        self._inbox_bytes += at + laid
        if at < length:
            self._receive_decoded(decode(packets, at, length))
        self._check_window()

    def _receive_decoded(self, found: list[Frame]) -> None:
        """Frames without descriptors, of any kind; raises :class:`ConfigError`."""
        append, last, total = self.inbox.append, self._last_received, 0
        for kind, flags, number, address, body, announced in found:
            if announced:
                raise ConfigError(f"no descriptors came and {announced} were announced")
            if flags & LANE:
                if kind == frames.LANE_KIND:
                    self._hear_of_lanes(flags, number, body)
                    continue
                self._check_room(total)
                body, flags = self.lane.take(body, True), flags & ~LANE
            if kind and not flags & (REPLY | ERROR):
                if number <= last:
                    raise ConfigError(f"message {number} came after {last}")
                last = number
                total += HEADER_BYTES + len(address) + charge_of(len(body), self._terms.window_bytes)
                append(_new(Message, (kind, flags, number, address, body, self, None, ())))
            elif kind == ACK:
                self._check_number(number)
                if body != self._theirs:
                    self.outbox.accept(frames.decode_ack(body))
                    self._theirs = body
                self.outbox.acknowledged(number)
            elif len(body) > frames.INLINE_MAX_BYTES:
                raise ConfigError("a large answer came by a lane")
            else:
                self._answered(_new(Message, (kind, flags, number, address, body, self, None, ())))
        self._last_received = last
        self._inbox_bytes += total

    def _receive_special(self, start: int, length: int) -> None:
        """The packet with descriptors at ``start``; raises :class:`ConfigError`."""
        fds = self._packets.take_descriptors()
        if fds is None:
            raise ConfigError("a packet is too big or has too many descriptors")
        descriptors = [Descriptor(fd) for fd in fds]  # closed with this list unless the message takes them
        found = decode(self._packets.buffer, start, start + length)
        kind, flags, number, address, body, announced = found[0]
        if announced != len(descriptors) or len(found) > 1:
            raise ConfigError(f"{len(descriptors)} descriptors came and {announced} were announced")
        if kind == frames.LANE_KIND:
            (size,) = frames.SEALED_LENGTH.unpack(body)
            self.lane.adopt(descriptors[0], size)
            return
        sealed = None
        if flags & frames.SEALED:
            (size,) = frames.SEALED_LENGTH.unpack(body)
            sealed = Sealed.adopt(descriptors.pop(0).detach(), size, self._terms.message_max_bytes)
        message = Message((kind, flags, number, address, body, self, sealed, tuple(descriptors)))
        if flags & (REPLY | ERROR):
            self._answered(message)
            return
        if number <= self._last_received:
            raise ConfigError(f"message {number} came after {self._last_received}")
        self._last_received = number
        self._inbox_bytes += message.frame_bytes
        self._inbox_fds += announced
        self.inbox.append(message)
        self._check_window()

    def _hear_of_lanes(self, flags: int, number: int, body: bytes) -> None:
        """A frame about lanes, without descriptors; raises :class:`ConfigError`."""
        if flags == frames.LANE_TAKEN:
            self.outbox.lane.taken(number)
        elif flags == frames.LANE_PART:
            self.lane.take(body, False)
        elif flags == frames.LANE_OFFER:
            (largest,) = frames.SEALED_LENGTH.unpack(body)
            self.outbox.lane.offered(largest)
            self.outbox.say(self.lane.offer())
        else:
            raise ConfigError("a lane's memory came without a descriptor")

    def _check_room(self, size: int) -> None:
        if self._inbox_bytes + size > self._terms.window_bytes:
            raise ConfigError("more came than the window allows")

    def _check_window(self) -> None:
        self._check_room(0)
        if len(self.inbox) - self._inbox_errors > self._most_messages or self._inbox_fds > frames.DESCRIPTORS_IN_FLIGHT:
            raise ConfigError("more came than the window allows")

    def _check_number(self, number: int) -> None:
        if number > self.outbox.last_written:
            raise ConfigError(f"speaks of message {number}, which was never sent")

    def _answered(self, message: Message) -> None:
        """An answer, or the error of an ordinary message, which goes to the inbox."""
        number = message.number
        self._check_number(number)
        self.outbox.acknowledged(number)
        waiting = self.pending.pop(number, None)
        if waiting is not None:
            self.answered.append((waiting, message))
        elif not message.flags & REPLY:
            if self._inbox_errors >= self._most_messages:
                raise ConfigError("more errors came than the window allows")
            self._inbox_errors += 1
            self.inbox.append(message)

    def settle(self) -> bool:
        """The application asks for more, so it is done with what it was given; True when the other side should hear that now."""
        if self._handed > self._settled:
            self._settled = self._handed
        return self._unsaid_bytes >= self._quarter_bytes or self._settled - self._said >= self._quarter_messages

    @property
    def unsaid(self) -> bool:
        """There is something to acknowledge."""
        return self._settled > self._said

    def next_message(self) -> Message | None:
        """:meth:`settle` and :meth:`take` in one; None when the other side should hear first, or nothing is there."""
        handed = self._handed
        if not self.inbox or self._unsaid_bytes >= self._quarter_bytes or handed - self._said >= self._quarter_messages:
            return None
        self._settled = handed
        return self.take()

    def take(self) -> Message:
        """The next message of ``inbox``, which is not empty."""
        message: Message = self.inbox.popleft()
        _, flags, number, address, body, _, sealed, descriptors = message
        if flags & ERROR:
            self._inbox_errors -= 1
            return message
        size = HEADER_BYTES + len(address) + len(body)
        if size > PLAIN_MAX_BYTES:
            size = HEADER_BYTES + len(address) + charge_of(len(body), self._terms.window_bytes)
            self._large_number, self._large_bytes = number, size
        self._inbox_bytes -= size
        self._unsaid_bytes += size
        self._handed = number
        if sealed is not None or descriptors:
            self._inbox_fds -= len(descriptors) + (sealed is not None)
            self._unsaid_bytes += self._quarter_bytes  # the sender holds memory and descriptors until it hears: soon
        return message

    # ---- the end ----

    def fail(self, reason: str) -> None:
        """Note why the connection is over; the first reason stays. Descriptors that came with what ended it are closed."""
        if not self.broken:
            self.broken = reason
            close_all(self._packets.take_descriptors() or ())  # behind what broke the rules, or with an empty packet, which says the end

    @property
    def is_ours(self) -> bool:
        """This process opened it; one that was forked from it has a copy of us, and no say over the connection."""
        return os.getpid() == self._owner

    def close(self) -> None:
        """Close the socket and drop what is on its way; messages received stay. Safe to call twice."""
        self.fail("was closed here")
        self.outbox.close()
        self.lane.close()
        if self._socket.fileno() >= 0 and self.is_ours:
            close_socket(self._socket.detach())
        self._socket.close()
