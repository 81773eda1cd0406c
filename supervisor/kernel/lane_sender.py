# SPDX-License-Identifier: Apache-2.0
"""The sending side of a lane: whether there is one, and which part of a large body it holds."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model import frames
from supervisor.model.frames import LANE_BODY_MAX_BYTES, LANE_PART_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.kernel.lane import LaneOut


class LaneSender:
    """Owns our lane's memory, made when it is first needed, and the part of a large body that lies in it."""

    __slots__ = ("_part", "_part_at", "blocked", "large", "largest", "memory")

    def __init__(self) -> None:
        self.memory: LaneOut | None = None
        self.largest = 0  # body that the other side takes from a lane
        self.large = 0  # such bodies in the queue: they go in part by part when it is their turn, and before any later one
        self.blocked = False  # by a lane without room: a full socket is not what keeps the rest back
        self._part: bytes | None = None  # the packet that says the part put in last, until it is written
        self._part_at = 0  # bytes of the body at the head of the queue that are in the lane, or were

    def offered(self, largest: int) -> None:
        """The other side takes bodies up to this size; we send none above :data:`LANE_BODY_MAX_BYTES`, whatever it says."""
        self.largest = min(largest, LANE_BODY_MAX_BYTES)

    def make(self) -> tuple[bytes, int] | None:
        """Make the memory: the frame that passes it on, and its descriptor. None without memory or descriptors, and never tried again."""
        from supervisor.kernel.lane import LaneOut

        try:
            self.memory = LaneOut()
        except OSError:
            self.largest = 0
            return None
        length = frames.SEALED_LENGTH.pack(frames.LANE_BYTES)
        return frames.encode_lane(frames.LANE_MEMORY, body=length, descriptors=1), self.memory.fd

    def put(self, body: bytes) -> bool:
        """Copy a body that is one part; False when there is no room, no lane, or a large one goes first."""
        return self.memory is not None and not self.large and self.memory.put(body)

    def next_part(self, head: bytes, body: bytes) -> tuple[list[bytes], tuple[int, ...], int]:
        """A packet that says the next part of a large body; without pieces when the lane has no room for it now."""
        if self._part is None and self.memory is not None:
            at, rest = self._part_at, len(body) - self._part_at
            size = min(rest, LANE_PART_BYTES)
            self.blocked = not self.memory.put(memoryview(body)[at : at + size])
            if self.blocked:
                return [], (), 0
            self._part_at += size
            if size == rest:
                self._part = frames.laid(head, len(body), size)
            else:
                self._part = frames.encode_lane(frames.LANE_PART, body=frames.LANE_PLACE.pack(len(body), size))
        return [self._part or b""], (), int(self._part_at == len(body))

    def written(self, whole: bool) -> None:
        """What :meth:`next_part` made, if anything, was written; ``whole``: with it the body."""
        if self._part is not None:
            self._part = None
            if whole:
                self._part_at = 0
                self.large -= 1

    def taken(self, position: int) -> None:
        """The other side has copied everything up to here. Raises :class:`ConfigError` when it says what cannot be."""
        if self.memory is None:
            raise ConfigError("speaks of a lane, which was never made")
        self.memory.taken(position)
        self.blocked = False

    def hang_up(self) -> None:
        """Nobody will read what is queued."""
        self.large = self._part_at = 0
        self._part, self.blocked = None, False

    def close(self) -> None:
        """Unmap the memory; safe to call twice."""
        self.largest = 0
        if self.memory is not None:
            self.memory.close()
            self.memory = None
