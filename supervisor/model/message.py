# SPDX-License-Identifier: Apache-2.0
"""Message: what one end of a channel receives."""

from __future__ import annotations

from _operator import itemgetter  # operator costs more to import

from supervisor.model.codec import MSGPACK
from supervisor.model.frames import ERROR, HEADER_BYTES, KIND_NAMES, REQUEST, RESENT, decode_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.model.codec import Codec


class Message(tuple):  # type: ignore[type-arg]
    """One message as it was received, immutable.

    ``sender``: empty on a channel of two; on an exchange the name that the exchange knows the sender by.
    ``number``: counts up from 1 for each sender, and stays the same when a message is sent again.
    ``sealed``: the memory that holds a large body, else None. ``descriptors``: owned by the message and
    closed with it unless detached. ``origin``: the link it came over.

    A tuple made by the link itself, because a channel makes hundreds of thousands of these a second.
    """

    __slots__ = ()

    kind_number: int = property(itemgetter(0))  # type: ignore[assignment]
    flags: int = property(itemgetter(1))  # type: ignore[assignment]
    number: int = property(itemgetter(2))  # type: ignore[assignment]
    sender: str = property(itemgetter(3))  # type: ignore[assignment]
    origin: object = property(itemgetter(5))
    sealed: Any = property(itemgetter(6))
    descriptors: tuple[Any, ...] = property(itemgetter(7))  # type: ignore[assignment]

    @property
    def body(self) -> bytes | memoryview:
        """The bytes; a large body is a read-only view of the sender's sealed memory, mapped when first asked for."""
        body: bytes = self[4]
        view: bytes | memoryview = body if self[6] is None else self[6].view()
        return view

    @property
    def content(self) -> Any:
        """The body as it is sent on without a copy: bytes, or the sealed memory."""
        return self[4] if self[6] is None else self[6]

    def readdressed(self, sender: str) -> Message:
        """The same from somebody by another name."""
        return Message((*self[:3], sender, *self[4:]))

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.content)

    @property
    def frame_bytes(self) -> int:
        """Bytes that it took of the window."""
        return HEADER_BYTES + len(self[3]) + len(self[4])

    @property
    def kind(self) -> str:
        """``data``, ``control`` or ``status``: a label of the sender's; order is kept across kinds."""
        return KIND_NAMES[self[0]]

    @property
    def wants_reply(self) -> bool:
        """The sender waits for an answer."""
        return bool(self[1] & REQUEST)

    @property
    def resent(self) -> bool:
        """It was sent to an earlier run of this job too, which may have dealt with it."""
        return bool(self[1] & RESENT)

    @property
    def error(self) -> tuple[str, str] | None:
        """Code and text when this says that the message ``number`` of ours could not be delivered, else None."""
        return decode_error(self[4]) if self[1] & ERROR else None

    def object(self, codec: Codec = MSGPACK) -> Any:
        """The body as the object that ``send_object`` was given; raises what the codec raises, ValueError or one of its kind."""
        return codec.decode(self[4] if self[6] is None else self[6].view())

    def __repr__(self) -> str:
        return f"<Message {self.kind} {self.number} from {self.sender!r}, {self.size} bytes>"
