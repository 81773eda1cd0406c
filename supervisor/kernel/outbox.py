# SPDX-License-Identifier: Apache-2.0
"""Outbox: the sending half of one end of a channel, without the socket."""

from __future__ import annotations

from supervisor.kernel.lane_sender import LaneSender
from supervisor.kernel.outgoing import JOINED_MAX_BYTES, close_all, drop, frame_of, wrap
from supervisor.model import frames
from supervisor.model.frames import (
    HEADER_BYTES,
    INLINE_MAX_BYTES,
    LANE_BODY_MIN_BYTES,
    LANE_FRAME_BYTES,
    LANE_PLAIN,
    LANE_WORD,
    PLAIN_HEADER,
    REQUEST,
    RESENT,
    Terms,
    charge_of,
    encode,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable
    from typing import Final

    from supervisor.kernel.outgoing import Outgoing
    from supervisor.kernel.sealed import Sealed
else:
    from _collections import deque  # the C type: the module around it costs 1.5 ms to import

#: Large bodies of ours that may be on their way, unless it is a single one: a receiver that takes none must not fill our memory.
SEALED_IN_FLIGHT_BYTES: Final = 64 << 20
#: What is gathered before it is written; with a lane more, as waking the other side costs more than copying a body.
GATHERED_BYTES: Final = 32 << 10
LANE_GATHERED_BYTES: Final = 512 << 10
PLAIN_MAX_BYTES: Final = HEADER_BYTES + INLINE_MAX_BYTES
KIND_AT: Final = 4  # offsets in a header
FLAGS_AT: Final = 5

_pack_plain = PLAIN_HEADER.pack
_pack_laid = LANE_PLAIN.pack


class Outbox:
    """Owns the messages on their way and their descriptors: what waits to be written, what is not acknowledged yet.

    Keeps to the other side's window; until that side has stated it, to the little that everybody takes.
    """

    __slots__ = (
        "_backlog",
        "_fds",
        "_room_bytes",
        "_room_messages",
        "_sealed_bytes",
        "_theirs",
        "_unacknowledged",
        "answers_bytes",
        "enough_bytes",
        "hung_up",
        "lane",
        "last_number",
        "last_written",
        "queue",
        "queued_bytes",
        "special",
        "undeliverable",
    )

    def __init__(self) -> None:
        self._theirs: Terms | None = None
        self._room_messages = frames.FIRST_MESSAGES
        self._room_bytes = frames.PACKET_MAX_BYTES
        self._fds = self._sealed_bytes = 0
        self._unacknowledged: deque[Outgoing] = deque()
        self._backlog: deque[Outgoing] = deque()  # of an earlier connection
        self.last_number = 0
        self.last_written = 0  # the other side can speak of no later message
        self.queue: deque[Outgoing] = deque()
        self.queued_bytes = 0
        self.answers_bytes = 0  # of these, what no window bounds
        self.special = 0  # frames in the queue that are more than one piece of bytes
        self.hung_up = False  # nobody reads any more
        self.undeliverable = 0  # messages left by an earlier connection that are too large for this one
        self.lane = LaneSender()
        self.enough_bytes = GATHERED_BYTES

    @property
    def largest(self) -> int:
        """Bytes of the largest body that the other side takes; what every side takes until it says more."""
        return INLINE_MAX_BYTES if self._theirs is None else self._theirs.message_max_bytes

    def takes_by_lane(self, size: int, descriptors: int = 0) -> bool:
        """A large body of bytes is copied, not sealed."""
        return size <= self.lane.largest and not descriptors and self._theirs is not None

    def has_room(self, size: int, descriptors: int = 0, sealed: bool = False) -> bool:
        """One more message of this size fits into the other side's window, and what an earlier connection left is sent.

        True for a body above :attr:`largest` once the other side has stated its terms: the caller must refuse it.
        """
        return not self._backlog and self._fits(size, descriptors, sealed)

    def _fits(self, size: int, descriptors: int, sealed: bool) -> bool:
        if size > INLINE_MAX_BYTES:
            if size > self.largest:
                return self._theirs is not None
            if not sealed and self._theirs is not None and self.takes_by_lane(size, descriptors):
                needed, window = (
                    charge_of(size, self._theirs.window_bytes) + frames.ADDRESS_MAX_BYTES + HEADER_BYTES,
                    self._theirs.window_bytes,
                )
                on_their_way = window - self._room_bytes
                few = on_their_way <= 0 or on_their_way + needed <= SEALED_IN_FLIGHT_BYTES
                return few and self._room_messages > 0 and self._room_bytes >= needed
            if self._sealed_bytes and self._sealed_bytes + size > SEALED_IN_FLIGHT_BYTES:
                return False
            size, descriptors = frames.SEALED_LENGTH.size, descriptors + 1
        needed = size + frames.ADDRESS_MAX_BYTES + HEADER_BYTES
        fits = self._room_messages > 0 and self._room_bytes >= needed
        return fits and (not descriptors or self._fds + descriptors <= frames.DESCRIPTORS_IN_FLIGHT)

    def post_plain(self, kind: int, body: bytes) -> bool:
        """Queue one message without address and descriptors; False when its body is large or there is no room."""
        size = len(body) + HEADER_BYTES
        room = self._room_bytes - size
        if room < 0 or self._room_messages <= 0 or size > PLAIN_MAX_BYTES or self._backlog or self.hung_up:
            return False
        self._room_messages -= 1
        self._room_bytes = room
        self.last_number = number = self.last_number + 1
        outgoing: Outgoing
        if size <= JOINED_MAX_BYTES:
            outgoing = (number, size, _pack_plain(size, kind, number) + body, b"", (), 0)
        else:
            outgoing = (number, size, _pack_plain(size, kind, number), body, (), 0)
            if size > LANE_BODY_MIN_BYTES and self._has_lane() and self.lane.put(body):
                length = size - HEADER_BYTES
                self._unacknowledged.append(outgoing)
                self.queue.append((number, size, _pack_laid(LANE_FRAME_BYTES, kind | LANE_WORD, number, length, length), b"", (), 0))
                self.queued_bytes += size
                return True
            self.special += 1
        self._unacknowledged.append(outgoing)
        self.queue.append(outgoing)
        self.queued_bytes += size
        return True

    def post(self, kind: int, body: bytes | Sealed, flags: int = 0, address: bytes = b"", descriptors: tuple[int, ...] = ()) -> int:
        """Queue one message and return its number. The caller has asked :meth:`has_room`.

        A large body is sealed here (raises OSError, with nothing queued); ``descriptors`` are taken over in any case.
        """
        number = self.last_number + 1
        outgoing = self._outgoing(kind, flags, number, number, address, body, descriptors)
        self.last_number = number
        self._send(outgoing)
        return number

    def answer(self, kind: int, number: int, body: bytes | Sealed, flags: int, address: bytes, descriptors: tuple[int, ...]) -> None:
        """Queue what needs no room in the window. ``descriptors`` are taken over, and closed once written."""
        self._enqueue(self._outgoing(kind, flags, number, 0, address, body, descriptors))

    def acknowledge(self, number: int, terms: Terms) -> None:
        """Queue an acknowledgement."""
        ack = frames.encode_ack(number, terms)
        self._enqueue((0, len(ack), ack, b"", (), 0))

    def say(self, frame: bytes) -> None:
        """Queue a frame that is no message; without effect when it is empty."""
        if frame:
            self._enqueue((0, len(frame), frame, b"", (), 0))

    def _has_lane(self) -> bool:
        """There is a lane, made and passed on first where it must be."""
        lane = self.lane
        if lane.memory is None and lane.largest and (made := lane.make()):
            (head, fd), self.enough_bytes = made, LANE_GATHERED_BYTES
            self.special += 1
            self.queue.appendleft((0, len(head), head, b"", (fd,), 0))
            self.queued_bytes += len(head)
            self.answers_bytes += len(head)
        return lane.memory is not None

    def _outgoing(
        self, kind: int, flags: int, number: int, kept: int, address: bytes, body: bytes | Sealed, descriptors: tuple[int, ...]
    ) -> Outgoing:
        length, theirs = len(body), self._theirs
        # A large answer is sealed: it needs no room in the window, so nothing would bound the copies of what the other side says.
        bounded = length >= LANE_BODY_MIN_BYTES and (kept or length <= INLINE_MAX_BYTES) and self.takes_by_lane(length, len(descriptors))
        if bounded and theirs is not None and isinstance(body, bytes) and self._has_lane():
            head = encode(kind, flags, number, address, length if length <= INLINE_MAX_BYTES else 0)
            return kept, len(head) + charge_of(length, theirs.window_bytes), head, body, (), 0
        body, flags, descriptors = wrap(body, flags, descriptors)
        return frame_of(kind, flags, number, kept, address, body, descriptors, length)

    def _send(self, outgoing: Outgoing) -> None:
        self._unacknowledged.append(outgoing)
        self._room_messages -= 1
        self._room_bytes -= outgoing[1]
        self._fds += len(outgoing[4])
        self._sealed_bytes += outgoing[5]
        self._enqueue(outgoing)

    def _enqueue(self, outgoing: Outgoing) -> None:
        number, size, head, body, descriptors, _ = outgoing
        if self.hung_up:
            if not number:
                close_all(descriptors)
            return
        length = len(body)
        if not number:
            self.answers_bytes += size
        if length > INLINE_MAX_BYTES:
            self.lane.large += 1
        elif length >= LANE_BODY_MIN_BYTES and not descriptors and self.lane.put(body):
            outgoing, body = (number, size, frames.laid(head, length, length), b"", (), 0), b""
        if body or descriptors:
            self.special += 1
        self.queue.append(outgoing)
        self.queued_bytes += size

    # ---- writing ----

    def next_packet(self) -> tuple[list[bytes], tuple[int, ...], int]:
        """The pieces of the next packet, its descriptors and how many of the queue's frames it ends; the queue is not empty.

        No pieces: the lane is ``blocked``.
        """
        queue = self.queue
        if not self.special and self.queued_bytes <= frames.PACKET_MAX_BYTES:
            return [b"".join([outgoing[2] for outgoing in queue])], (), len(queue)
        packet: list[bytes] = []
        total = count = 0
        for _, _, head, body, descriptors, _ in queue:
            size = len(head) + len(body)  # of a body in the lane less than it takes of the window
            if len(body) > INLINE_MAX_BYTES:
                if not packet:
                    return self.lane.next_part(head, body)
                break
            if packet and (descriptors or total + size > frames.PACKET_MAX_BYTES):
                break
            packet.append(head)
            if body:
                packet.append(body)
            total += size
            count += 1
            if descriptors:
                return packet, descriptors, count
        return packet if len(packet) < 3 else [b"".join(packet)], (), count

    def written(self, count: int) -> None:
        """The packet made last was written, and with it the next ``count`` frames."""
        queue = self.queue
        if count == len(queue) and not self.special:
            queue.clear()
            self.queued_bytes = self.answers_bytes = 0
            if self._unacknowledged:  # not last_number: an earlier connection's messages may still wait for room
                self.last_written = self._unacknowledged[-1][0]
            return
        self.lane.written(bool(count))
        for _ in range(count):
            number, size, _, body, descriptors, _ = queue.popleft()
            self.queued_bytes -= size
            if number:
                self.last_written = number
            else:
                self.answers_bytes -= size
            if body or descriptors:
                self.special -= 1
                if not number:
                    close_all(descriptors)

    def hang_up(self) -> None:
        """Nobody will read what is queued; messages stay for a successor."""
        self.hung_up = True
        for number, _, _, _, descriptors, _ in self.queue:
            if not number:
                close_all(descriptors)
        self.queue.clear()
        self.queued_bytes = self.answers_bytes = self.special = 0
        self.lane.hang_up()

    # ---- acknowledgements ----

    def accept(self, theirs: Terms) -> None:
        """The other side has stated its terms."""
        before = self._theirs
        self._room_messages += theirs.window_messages - (before.window_messages if before else frames.FIRST_MESSAGES)
        self._room_bytes += theirs.window_bytes - (before.window_bytes if before else frames.PACKET_MAX_BYTES)
        self._theirs = theirs

    def acknowledged(self, number: int) -> None:
        """The other side is done with every message up to ``number``."""
        unacknowledged = self._unacknowledged
        messages, room = len(unacknowledged), 0
        while unacknowledged and unacknowledged[0][0] <= number:
            _, size, _, _, descriptors, sealed_bytes = unacknowledged.popleft()
            room += size
            if descriptors:
                self._fds -= len(descriptors)
                self._sealed_bytes -= sealed_bytes
                close_all(descriptors)
        self._room_messages += messages - len(unacknowledged)
        self._room_bytes += room
        if self._backlog:
            self._send_backlog()

    def _send_backlog(self) -> None:
        """What an earlier connection left, as far as there is room."""
        backlog = self._backlog
        while backlog:
            number, size, head, body, descriptors, sealed_bytes = backlog[0]
            large = len(body) > INLINE_MAX_BYTES
            length = sealed_bytes or (len(body) if large else min(size, INLINE_MAX_BYTES))
            if not self._fits(length, len(descriptors) - bool(sealed_bytes), bool(sealed_bytes)):
                break
            outgoing = backlog[0]
            if length > self.largest:  # the successor takes less than its predecessor did
                self.undeliverable += 1
                close_all(descriptors)
            else:
                if large:
                    try:
                        outgoing = self._outgoing(head[KIND_AT], head[FLAGS_AT], number, number, head[HEADER_BYTES:], body, ())
                    except OSError:  # no memory to seal it in: with the next acknowledgement
                        break
                self._send(outgoing)
            backlog.popleft()

    # ---- the end ----

    def remains(self) -> list[Outgoing]:
        """Messages that a restarted job must get: unacknowledged, and nobody was told that they failed. The caller's from now on."""
        kept: list[Outgoing] = []
        for outgoing in (*self._unacknowledged, *self._backlog):
            number, size, head, body, descriptors, sealed_bytes = outgoing
            flags = head[FLAGS_AT]
            if flags & REQUEST:
                close_all(descriptors)
            else:
                head = head[:FLAGS_AT] + bytes((flags | RESENT,)) + head[FLAGS_AT + 1 :]
                kept.append((number, size, head, body, descriptors, sealed_bytes))
        self._unacknowledged.clear()
        self._backlog.clear()
        return kept

    def resume(self, last_number: int, remains: Iterable[Outgoing]) -> None:
        """Go on where an earlier connection ended: its numbers, and first the messages that remain of it."""
        self.last_number = last_number
        self._backlog.extend(remains)
        self.acknowledged(0)

    def close(self) -> None:
        """Drop everything; safe to call twice."""
        self.hang_up()
        drop(self.remains())
        self.lane.close()
