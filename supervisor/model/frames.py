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
#: messages and bytes that may be on their way unacknowledged, largest message
TERMS: Final = Struct("<IIQ")
SEALED_LENGTH: Final = Struct("<Q")

# kinds of a frame
ACK: Final = 0
DATA: Final = 1
CONTROL: Final = 2
STATUS: Final = 3
KINDS: Final = {"data": DATA, "control": CONTROL, "status": STATUS}
KIND_NAMES: Final = ("ack", "data", "control", "status")

# flags of a frame
REQUEST: Final = 1
REPLY: Final = 2
ERROR: Final = 4
RESENT: Final = 8
SEALED: Final = 16
#: Frames with these are looked at closely.
RARE: Final = ERROR | SEALED

#: Every pair of kind and flags that means something.
MEANINGFUL: Final = frozenset(
    [
        ACK << 8,
        *(
            kind << 8 | flags
            for kind in (DATA, CONTROL, STATUS)
            for flags in (
                *(role | sealed for role in (0, REQUEST, REPLY, RESENT) for sealed in (0, SEALED)),
                REPLY | ERROR,
                ERROR,
            )
        ),
    ]
)

#: A body above this travels in sealed memory: copying it through the socket would cost the kernel large contiguous buffers.
INLINE_MAX_BYTES: Final = 64 << 10
#: Below this the kernel needs no allocation above 16 KiB for a packet (unix(7) sockets, 17 page fragments beside it).
PACKET_MAX_BYTES: Final = 80 << 10
ADDRESS_MAX_BYTES: Final = 255
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
    ``message_max_bytes``: the largest body. Raises :class:`ConfigError` for what no channel can work with.
    """

    window_messages: int = 1024
    window_bytes: int = 1 << 20
    message_max_bytes: int = 64 << 20

    def _check(self) -> None:
        bounds = {
            "window_messages": (1, WINDOW_MESSAGES_MAX),
            "window_bytes": (PACKET_MAX_BYTES, WINDOW_BYTES_MAX),
            "message_max_bytes": (INLINE_MAX_BYTES, MESSAGE_MAX_BYTES),
        }
        problems = [
            f"{name}: must be a whole number from {low} to {high}, not {given!r}"
            for name, (low, high) in bounds.items()
            if not isinstance(given := getattr(self, name), int) or isinstance(given, bool) or not low <= given <= high
        ]
        if problems:
            raise ConfigError(*problems)


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
    if kind != ACK and not number:
        return "a message has the number 0"
    if flags & SEALED and (body != SEALED_LENGTH.size or not descriptors):
        return "a sealed body is a descriptor and eight bytes of length"
    if flags & ERROR and (descriptors or body > 1 + ERROR_TEXT_MAX_BYTES):
        return f"an error is a byte and a text of at most {ERROR_TEXT_MAX_BYTES} bytes, without descriptors"
    if descriptors > DESCRIPTORS_MAX:
        return f"{descriptors} descriptors are more than {DESCRIPTORS_MAX}"
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
