# SPDX-License-Identifier: Apache-2.0
"""The wire format of channels: packets of frames to bytes and back (docs/reference/wire.md).

A packet is what one send on a SOCK_SEQPACKET socket carries: one frame or more, each whole, so half a
frame can never be waited for. A frame is sixteen bytes of header, an address, a body; numbers are
little-endian. A packet that carries descriptors holds exactly one frame.
"""

from __future__ import annotations

from struct import Struct

from supervisor.errors import ConfigError
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from typing import Final

    #: kind, flags, number, address, body, descriptors
    Frame = tuple[int, int, int, str, bytes, int]
    #: What frames are read from: slices of both are bytes.
    Sliced = bytes | mmap

#: size of the whole frame, kind, flags, length of the address, descriptors, number
HEADER: Final = Struct("<IBBBBQ")
HEADER_BYTES: Final = 16
#: The same header as size, one word, and number. The word of a plain message, which has neither flags nor address nor
#: descriptors, is its kind: most are, and for those this is quicker.
PLAIN_HEADER: Final = Struct("<IIQ")
PLAIN_WORDS: Final = frozenset((1, 2, 3))
#: The same of messages whose body is in the lane.
LANE_WORDS: Final = {kind | 0x2000: kind for kind in (1, 2, 3)}
#: messages and bytes that may be on their way unacknowledged, largest message
TERMS: Final = Struct("<IIQ")
SEALED_LENGTH: Final = Struct("<Q")
#: size of a body in the lane, and of the part that lies there now
LANE_PLACE: Final = Struct("<QQ")
LANE_FRAME_BYTES: Final = 32
#: Of a plain message: size of the frame, word, number, and those two.
LANE_PLAIN: Final = Struct("<IIQQQ")
LANE_WORD: Final = 0x2000

# kinds of a frame
ACK: Final = 0
DATA: Final = 1
CONTROL: Final = 2
STATUS: Final = 3
#: What is said about lanes; no message.
LANE_KIND: Final = 4
KINDS: Final = {"data": DATA, "control": CONTROL, "status": STATUS}
KIND_NAMES: Final = ("ack", "data", "control", "status")

# flags of a frame
REQUEST: Final = 1
REPLY: Final = 2
ERROR: Final = 4
RESENT: Final = 8
SEALED: Final = 16
#: The body is in the sender's lane. Also on every frame of LANE_KIND, each of which has one of the four flags below it.
LANE: Final = 32
#: Frames with these are looked at closely.
RARE: Final = ERROR | SEALED | LANE
#: "I take bodies up to this size from a lane"; "this is my lane"; "I have copied so much out of yours"; "a part of a body".
LANE_OFFER: Final = LANE | 1
LANE_MEMORY: Final = LANE | 2
LANE_TAKEN: Final = LANE | 4
LANE_PART: Final = LANE | 8

#: Every pair of kind and flags that means something.
MEANINGFUL: Final = frozenset(
    [
        ACK << 8,
        *(LANE_KIND << 8 | flags for flags in (LANE_OFFER, LANE_MEMORY, LANE_TAKEN, LANE_PART)),
        *(
            kind << 8 | flags
            for kind in (DATA, CONTROL, STATUS)
            for flags in (
                *(role | sealed for role in (0, REQUEST, REPLY, RESENT) for sealed in (0, SEALED, LANE)),
                REPLY | ERROR,
                ERROR,
            )
        ),
    ]
)

#: A body above this travels in a lane or in sealed memory: through the socket it would cost the kernel large contiguous buffers.
INLINE_MAX_BYTES: Final = 64 << 10
#: Below this the kernel needs no allocation above 16 KiB for a packet (unix(7) sockets, 17 page fragments beside it).
PACKET_MAX_BYTES: Final = 80 << 10
ADDRESS_MAX_BYTES: Final = 255
#: A body of less goes through the socket although there is a lane: the copies cost less than the looking.
LANE_BODY_MIN_BYTES: Final = 16 << 10
#: A body above this is sealed, whatever the other side says: two may be on their way, and a receiver takes no more for one.
LANE_BODY_MAX_BYTES: Final = 16 << 20
#: Memory of a lane, the largest part of a body in it, and where a part begins: room for the window of a job, small enough to stay in
#: the processors' caches.
LANE_BYTES: Final = 4 << 20
LANE_PART_BYTES: Final = LANE_BYTES // 4
LANE_ALIGN_BYTES: Final = 64
#: Until the other side has stated its terms: messages on their way; and bytes, PACKET_MAX_BYTES.
FIRST_MESSAGES: Final = 16
#: What terms may be at most.
WINDOW_MESSAGES_MAX: Final = 65536
WINDOW_BYTES_MAX: Final = 1 << 30
MESSAGE_MAX_BYTES: Final = 1 << 40
#: Of one frame, the sealed body's included; and of all messages that are not acknowledged yet.
DESCRIPTORS_MAX: Final = 16
DESCRIPTORS_IN_FLIGHT: Final = 64

# first byte of the body of an error
FAILED: Final = 1
GONE: Final = 2
UNKNOWN: Final = 3
BUSY: Final = 4
REFUSED: Final = 5
ERROR_NAMES: Final = {FAILED: "failed", GONE: "gone", UNKNOWN: "unknown", BUSY: "busy", REFUSED: "refused"}
ERROR_CODES: Final = {name: code for code, name in ERROR_NAMES.items()}
ERROR_TEXT_MAX_BYTES: Final = 1024


@value
class Terms:
    """What one end of a channel lets the other have on its way.

    ``window_messages`` and ``window_bytes``: messages sent and not yet taken by the application.
    ``message_max_bytes``: the largest body. ``lane_max_bytes``: the largest that is copied through shared memory that the other side
    reuses, into memory of ours, which is quick; what is larger comes in sealed memory of the other side's. 0: none.
    Raises :class:`ConfigError` for what no channel can work with.
    """

    window_messages: int = 1024
    window_bytes: int = 1 << 20
    message_max_bytes: int = 64 << 20
    lane_max_bytes: int = INLINE_MAX_BYTES

    def _check(self) -> None:
        bounds = {
            "window_messages": (1, WINDOW_MESSAGES_MAX),
            "window_bytes": (PACKET_MAX_BYTES, WINDOW_BYTES_MAX),
            "message_max_bytes": (INLINE_MAX_BYTES, MESSAGE_MAX_BYTES),
            "lane_max_bytes": (0, LANE_BODY_MAX_BYTES),
        }
        problems = [
            f"{name}: must be a whole number from {low} to {high}, not {given!r}"
            for name, (low, high) in bounds.items()
            if not isinstance(given := getattr(self, name), int) or isinstance(given, bool) or not low <= given <= high
        ]
        if problems:
            raise ConfigError(*problems)


#: What a job lets its supervisor have on its way: more than the supervisor lets each of its jobs, which it does not trust. Only the job
#: copies bodies above 64 KiB into memory of its own, which is charged to it.
JOB_TERMS: Final = Terms(window_bytes=4 << 20, lane_max_bytes=LANE_BODY_MAX_BYTES)


def charge_of(size: int, window_bytes: int) -> int:
    """What a body of ``size`` bytes takes of the window: all of it, but no more than lets two large ones be on their way."""
    return size if size <= INLINE_MAX_BYTES else min(size, max(INLINE_MAX_BYTES, window_bytes // 2 - 512))


def encode(kind: int, flags: int, number: int, address: bytes, body_bytes: int, descriptors: int = 0) -> bytes:
    """The header of a frame and its address; the body of ``body_bytes`` bytes comes right behind it."""
    length = len(address)
    return HEADER.pack(HEADER_BYTES + length + body_bytes, kind, flags, length, descriptors, number) + address


def encode_ack(number: int, terms: Terms) -> bytes:
    """An acknowledgement of every message up to ``number`` (0: of none), which states our terms."""
    body = TERMS.pack(terms.window_messages, terms.window_bytes, terms.message_max_bytes)
    return HEADER.pack(HEADER_BYTES + len(body), ACK, 0, 0, 0, number) + body


def decode_ack(body: bytes) -> Terms:
    """The other side's terms, forced into what is possible."""
    messages, size, largest = TERMS.unpack(body)
    return Terms(
        window_messages=min(max(messages, 1), WINDOW_MESSAGES_MAX),
        window_bytes=min(max(size, PACKET_MAX_BYTES), WINDOW_BYTES_MAX),
        message_max_bytes=min(max(largest, INLINE_MAX_BYTES), MESSAGE_MAX_BYTES),
    )


def encode_lane(flags: int, number: int = 0, body: bytes = b"", descriptors: int = 0) -> bytes:
    """A frame about lanes."""
    return HEADER.pack(HEADER_BYTES + len(body), LANE_KIND, flags, 0, descriptors, number) + body


def laid(head: bytes, size: int, part: int) -> bytes:
    """The frame of a message whose body of ``size`` bytes is in the lane, its last ``part`` bytes last, from its head without a body."""
    total = len(head) + LANE_PLACE.size
    return b"".join((total.to_bytes(4, "little"), head[4:5], bytes((head[5] | LANE,)), head[6:], LANE_PLACE.pack(size, part)))


def encode_error(code: int, text: str) -> bytes:
    """The body of an error."""
    return bytes((code,)) + text.encode("utf-8", "replace")[:ERROR_TEXT_MAX_BYTES]


def decode_error(body: bytes) -> tuple[str, str]:
    """Name of the code and text of an error; whatever the other side wrote, an answer comes."""
    code = ERROR_NAMES.get(body[0], "failed") if body else "failed"
    return code, body[1 : 1 + ERROR_TEXT_MAX_BYTES].decode("utf-8", "replace")


def _problem(packet: Sliced, at: int, length: int) -> str:
    """What is wrong with the frame at ``at``."""
    if length - at < HEADER_BYTES:
        return f"{length - at} bytes are too short for a header"
    size, kind, flags, address, descriptors, number = HEADER.unpack_from(packet, at)
    body = size - HEADER_BYTES - address
    if kind << 8 | flags not in MEANINGFUL:
        return f"kind {kind} with flags {flags:#x} means nothing"
    if body < 0 or size > length - at:
        return f"a frame of {size} bytes does not fit into the {length - at} bytes that are there"
    if body > INLINE_MAX_BYTES:
        return f"a body of {body} bytes must travel in sealed memory"
    if kind == ACK and (body != TERMS.size or address or descriptors):
        return "an acknowledgement is 32 bytes without address and descriptors"
    if kind == LANE_KIND:
        return _lane_problem(flags, number, address, body, descriptors)
    if flags & LANE and (body != LANE_PLACE.size or descriptors):
        return "a body in a lane is sixteen bytes that say its size, without descriptors"
    if kind != ACK and not number:
        return "a message has the number 0"
    if flags & SEALED and (body != SEALED_LENGTH.size or not descriptors):
        return "a sealed body is a descriptor and eight bytes of length"
    if flags & ERROR and (descriptors or body > 1 + ERROR_TEXT_MAX_BYTES):
        return f"an error is a byte and a text of at most {ERROR_TEXT_MAX_BYTES} bytes, without descriptors"
    if descriptors > DESCRIPTORS_MAX:
        return f"{descriptors} descriptors are more than {DESCRIPTORS_MAX}"
    return ""


def _lane_problem(flags: int, number: int, address: int, body: int, descriptors: int) -> str:
    lengths = {LANE_OFFER: SEALED_LENGTH.size, LANE_MEMORY: SEALED_LENGTH.size, LANE_TAKEN: 0, LANE_PART: LANE_PLACE.size}
    if body != lengths[flags] or address or descriptors != (flags == LANE_MEMORY) or (number and flags != LANE_TAKEN):
        return f"a frame about lanes with flags {flags:#x} has {lengths[flags]} bytes and nothing else"
    return ""


def decode(packet: Sliced, start: int, length: int) -> list[Frame]:
    """The frames from ``start`` to ``length`` of ``packet``: one packet, or several that stand one behind the other.

    Raises :class:`ConfigError` for whatever breaks the rules, and nothing else.
    """
    frames: list[Frame] = []
    unpack, meaningful = HEADER.unpack_from, MEANINGFUL
    at = start
    while at < length:
        if length - at < HEADER_BYTES:
            raise ConfigError(_problem(packet, at, length))
        size, kind, flags, address_length, descriptors, number = unpack(packet, at)
        end = at + size
        body_at = at + HEADER_BYTES + address_length
        plain = number and kind and not descriptors and not flags & RARE  # most frames; the rest is looked at closely
        fits = body_at <= end <= length and end - body_at <= INLINE_MAX_BYTES
        if not (plain and fits and kind << 8 | flags in meaningful) and (problem := _problem(packet, at, length)):
            raise ConfigError(problem)
        if address_length:
            try:
                address = packet[at + HEADER_BYTES : body_at].decode()
            except UnicodeDecodeError:
                raise ConfigError("an address is not UTF-8") from None
        else:
            address = ""
        frames.append((kind, flags, number, address, packet[body_at:end], descriptors))
        at = end
    return frames
