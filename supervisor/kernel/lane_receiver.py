# SPDX-License-Identifier: Apache-2.0
"""The receiving side of a lane: whether we asked for one, and what we have said to have copied."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.kernel.packet_socket import send_packet
from supervisor.model import frames
from supervisor.model.frames import LANE_PART_BYTES, LANE_PLACE, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from supervisor.kernel.descriptor import Descriptor
    from supervisor.kernel.lane import LaneIn


class LaneReceiver:
    """Owns the other side's lane and the word that we owe it: up to where we have copied."""

    __slots__ = ("_offered", "_said", "_terms", "_trusting", "memory", "word_waits")

    def __init__(self, terms: Terms, trusting: bool) -> None:
        """``trusting``: the other side is our supervisor."""
        self.memory: LaneIn | None = None
        self.word_waits = False  # the socket was full when the other side should have heard at once
        self._terms = terms
        self._trusting = trusting
        self._offered = False
        self._said = 0

    def offer(self) -> bytes:
        """The frame that says once that we take bodies from a lane; empty when it was said, or we do not."""
        if self._offered or not self._terms.lane_max_bytes:
            return b""
        self._offered = True
        return frames.encode_lane(frames.LANE_OFFER, body=frames.SEALED_LENGTH.pack(self._terms.lane_max_bytes))

    def adopt(self, memory: Descriptor, size: int) -> None:
        """Take over the other side's lane; raises :class:`ConfigError`."""
        if self.memory is not None:
            raise ConfigError("a second lane came")
        if not self._offered:
            raise ConfigError("a lane came that was not asked for")
        from supervisor.kernel.lane import LaneIn

        try:
            self.memory = LaneIn(memory, size, self._trusting)
        except OSError as error:
            raise ConfigError(f"a lane's memory cannot be mapped: {error.strerror}") from None

    def take(self, place: bytes, last: bool) -> Any:
        """Copy a part of a body; the body, bytes or a view of them, with its last one. Raises :class:`ConfigError`."""
        size, part = LANE_PLACE.unpack(place)
        if self.memory is None:
            raise ConfigError("a body is said to be in a lane, and there is none")
        if size > min(self._terms.lane_max_bytes, self._terms.message_max_bytes):
            raise ConfigError(f"a body of {size} bytes is too large for a lane")
        return self.memory.take(size, part, last)

    def word(self) -> bytes:
        """The frame that says what was copied since the last one, for an acknowledgement to take along; empty when nothing was."""
        if self.memory is None or self._said >= self.memory.position:
            return b""
        self._said = self.memory.position
        return frames.encode_lane(frames.LANE_TAKEN, self._said)

    def say(self, socket: _socket.socket) -> None:
        """Write the word at once when the other side may wait for it. While the socket is full it waits (:attr:`word_waits`).

        Past what is queued: behind a body of ours that waits for room both sides would wait for ever.
        """
        lane = self.memory
        if lane is None or lane.position - self._said < LANE_PART_BYTES * (1 if lane.is_busy else 2):
            self.word_waits = False
            return
        try:
            send_packet(socket, [frames.encode_lane(frames.LANE_TAKEN, lane.position)])
        except BlockingIOError:
            self.word_waits = True
        except OSError:
            self.word_waits = False  # its end, which reading tells
        else:
            self._said, self.word_waits = lane.position, False

    def close(self) -> None:
        """Give the memory up; safe to call twice."""
        self.word_waits = False
        if self.memory is not None:
            self.memory.close()
            self.memory = None
