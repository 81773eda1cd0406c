# SPDX-License-Identifier: Apache-2.0
"""Outbox: the sending half of one end of a channel, without the socket."""

from __future__ import annotations

import os

from supervisor.kernel.native import close_given
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.frames import HEADER_BYTES, INLINE_MAX_BYTES, PLAIN_HEADER, REQUEST, RESENT, SEALED, Terms, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable
    from typing import Final

    #: One frame: number (0: not kept once written), bytes of its frame, head (with a short body joined), long body,
    #: descriptors, bytes of its sealed body. A tuple, because a channel makes hundreds of thousands of these a second.
    Outgoing = tuple[int, int, bytes, bytes, tuple[int, ...], int]
else:
    from _collections import deque  # the C type: the module around it costs 1.5 ms to import

#: A body up to this is joined with its header: one piece is cheaper than two.
JOINED_MAX_BYTES: Final = 2048
#: Large bodies of ours that may be on their way, unless it is a single one: a receiver that takes none must not fill our memory.
SEALED_IN_FLIGHT_BYTES: Final = 64 << 20
PLAIN_MAX_BYTES: Final = HEADER_BYTES + INLINE_MAX_BYTES
FLAGS_AT: Final = 5  # offset in a header

_pack_plain = PLAIN_HEADER.pack


def close_all(fds: Iterable[int]) -> None:
    """What is sent on may be somebody else's."""
    for fd in fds:
        close_given(fd)


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
        "hung_up",
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
        self.special = 0  # frames in the queue that are more than one piece of bytes
        self.hung_up = False  # nobody reads any more
        self.undeliverable = 0  # messages left by an earlier connection that are too large for this one

    @property
    def largest(self) -> int:
        """Bytes of the largest body that the other side takes; what every side takes until it says more."""
        return INLINE_MAX_BYTES if self._theirs is None else self._theirs.message_max_bytes

    def has_room(self, size: int, descriptors: int = 0) -> bool:
        """One more message of this size fits into the other side's window, and what an earlier connection left is sent.

        True for a body above :attr:`largest` once the other side has stated its terms: the caller must refuse it.
        """
        return not self._backlog and self._fits(size, descriptors)

    def _fits(self, size: int, descriptors: int) -> bool:
        if size > INLINE_MAX_BYTES:
            if size > self.largest:
                return self._theirs is not None
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
            self.special += 1
        self._unacknowledged.append(outgoing)
        self.queue.append(outgoing)
        self.queued_bytes += size
        return True

    def post(self, kind: int, body: bytes | Sealed, flags: int = 0, address: bytes = b"", descriptors: tuple[int, ...] = ()) -> int:
        """Queue one message and return its number. The caller has asked :meth:`has_room`.

        A large body is sealed here (raises OSError, with nothing queued); ``descriptors`` are taken over in any case.
        """
        length = len(body)
        body, flags, descriptors = _wrap(body, flags, descriptors)
        self.last_number += 1
        self._send(_frame(kind, flags, self.last_number, self.last_number, address, body, descriptors, length))
        return self.last_number

    def answer(self, kind: int, number: int, body: bytes | Sealed, flags: int, address: bytes, descriptors: tuple[int, ...]) -> None:
        """Queue what needs no room in the window. ``descriptors`` are taken over, and closed once written."""
        length = len(body)
        body, flags, descriptors = _wrap(body, flags, descriptors)
        self._enqueue(_frame(kind, flags, number, 0, address, body, descriptors, length))

    def acknowledge(self, number: int, terms: Terms) -> None:
        """Queue an acknowledgement."""
        ack = frames.encode_ack(number, terms)
        self._enqueue((0, len(ack), ack, b"", (), 0))

    def _send(self, outgoing: Outgoing) -> None:
        self._unacknowledged.append(outgoing)
        self._room_messages -= 1
        self._room_bytes -= outgoing[1]
        self._fds += len(outgoing[4])
        self._sealed_bytes += outgoing[5]
        self._enqueue(outgoing)

    def _enqueue(self, outgoing: Outgoing) -> None:
        number, size, _, body, descriptors, _ = outgoing
        if self.hung_up:
            if not number:
                close_all(descriptors)
            return
        if body or descriptors:
            self.special += 1
        self.queue.append(outgoing)
        self.queued_bytes += size

    # ---- writing ----

    def next_packet(self) -> tuple[list[bytes], tuple[int, ...], int]:
        """The pieces of the next packet, its descriptors and its number of frames; the queue is not empty."""
        queue = self.queue
        if not self.special and self.queued_bytes <= frames.PACKET_MAX_BYTES:
            return [b"".join([outgoing[2] for outgoing in queue])], (), len(queue)
        packet: list[bytes] = []
        total = count = 0
        for _, size, head, body, descriptors, _ in queue:
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
        """The next ``count`` frames were written."""
        queue = self.queue
        if count == len(queue) and not self.special:
            queue.clear()
            self.queued_bytes = 0
            if self._unacknowledged:  # not last_number: an earlier connection's messages may still wait for room
                self.last_written = self._unacknowledged[-1][0]
            return
        for _ in range(count):
            number, size, _, body, descriptors, _ = queue.popleft()
            self.queued_bytes -= size
            if number:
                self.last_written = number
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
        self.queued_bytes = self.special = 0

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
            _, size, _, _, descriptors, sealed_bytes = backlog[0]
            if not self._fits(sealed_bytes or min(size, INLINE_MAX_BYTES), len(descriptors) - bool(sealed_bytes)):
                break
            outgoing = backlog.popleft()
            if sealed_bytes > self.largest:  # the successor takes less than its predecessor did
                self.undeliverable += 1
                close_all(descriptors)
            else:
                self._send(outgoing)

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


def drop(remains: Iterable[Outgoing]) -> None:
    """Close what messages hold that nobody will send again."""
    for outgoing in remains:
        close_all(outgoing[4])


def _wrap(body: bytes | Sealed, flags: int, descriptors: tuple[int, ...]) -> tuple[bytes, int, tuple[int, ...]]:
    """The body as it stands in a frame: itself, or the length of sealed memory whose descriptor comes first."""
    if isinstance(body, bytes) and len(body) <= INLINE_MAX_BYTES:
        return body, flags, descriptors
    try:
        fd = os.dup(body.fileno()) if isinstance(body, Sealed) else Sealed(body).detach()
    except BaseException:
        close_all(descriptors)
        raise
    return frames.SEALED_LENGTH.pack(len(body)), flags | SEALED, (fd, *descriptors)


def _frame(
    kind: int, flags: int, number: int, kept: int, address: bytes, body: bytes, descriptors: tuple[int, ...], length: int
) -> Outgoing:
    size = len(body)
    head = encode(kind, flags, number, address, size, len(descriptors))
    total = len(head) + size
    if size <= JOINED_MAX_BYTES:
        head, body = head + body, b""
    return kept, total, head, body, descriptors, length if flags & SEALED else 0
