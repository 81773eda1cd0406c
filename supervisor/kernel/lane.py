# SPDX-License-Identifier: Apache-2.0
"""Lanes: shared memory through which bodies of one direction of a connection are copied, used again and again.

A part of a body begins where the one before it ended, rounded up to 64 bytes, or at the start of the memory when it would reach beyond
its end. So both sides know the place, and no frame can say a wrong one.
"""

from __future__ import annotations

import mmap
import os
import sys

from supervisor.errors import ConfigError
from supervisor.kernel import memfd
from supervisor.kernel.native import ffi
from supervisor.model.frames import LANE_ALIGN_BYTES, LANE_BYTES, LANE_PART_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.kernel.descriptor import Descriptor

_SEALS: Final = memfd.SEAL_SHRINK | memfd.SEAL_GROW
_MAP_OPTIONS: Final[dict[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # before, mmap keeps a duplicate
#: Room for a body, which is written whole before anybody sees it: filling it with zeros first would cost as much as the copy.
_new_room = ffi.new_allocator(should_clear_after_alloc=False)


class LaneOut:
    """Owns the sender's mapping of its lane."""

    __slots__ = ("_map", "_taken", "fd", "in_use", "position")

    def __init__(self) -> None:
        """New memory; ``fd`` is the caller's, to be passed on. Raises OSError."""
        self.fd = memfd.create("lane", LANE_BYTES)
        try:
            memfd.add_seals(self.fd, memfd.SEAL)  # one more of the other side's, against writing, would keep us from giving pages back
            self._map = mmap.mmap(self.fd, LANE_BYTES, **_MAP_OPTIONS)
        except BaseException:
            os.close(self.fd)
            raise
        self.position = self._taken = 0
        self.in_use = False  # it may hold pages for nothing

    def put(self, part: bytes | memoryview) -> bool:
        """Copy a part behind the one before; False when there is no room now."""
        size, at = len(part), self.position % LANE_BYTES
        begin = self.position
        if at + size > LANE_BYTES:
            begin, at = begin - at + LANE_BYTES, 0
        end = (begin + size + LANE_ALIGN_BYTES - 1) & -LANE_ALIGN_BYTES
        if end - self._taken > LANE_BYTES:
            return False
        self._map[at : at + size] = part
        self.position, self.in_use = end, True
        return True

    def taken(self, position: int) -> None:
        """The other side has copied everything up to here, or further as it said before. Raises :class:`ConfigError` for what cannot be."""
        if position > self.position:
            raise ConfigError(f"has copied {position} bytes out of a lane into which {self.position} were written")
        self._taken = max(self._taken, position)

    def give_back(self) -> None:
        """Free the pages of all that the other side has said to have copied, until they are used again."""
        self.in_use = self._taken < self.position
        begin, end = self.position & -mmap.PAGESIZE, (self._taken & -mmap.PAGESIZE) + LANE_BYTES
        if self.in_use:
            begin += mmap.PAGESIZE  # the first holds the end of what is still to be copied
        while begin < end:
            at = begin % LANE_BYTES
            size = min(end - begin, LANE_BYTES - at)
            self._map.madvise(mmap.MADV_REMOVE, at, size)
            begin += size

    def close(self) -> None:
        self._map.close()


class LaneIn:
    """Owns the receiver's descriptor or mapping of the other side's lane, and the body that is being put together.

    What it hands out is a copy: the other side can write into the lane at any time, but not into that. A job maps the lane of its
    supervisor, which is quicker. A supervisor reads that of a job: to touch a page that the job left out would charge it to us.
    """

    __slots__ = ("_body", "_filled", "_map", "_memory", "_room", "position")

    def __init__(self, memory: Descriptor, size: int, mapped: bool) -> None:
        """Takes over ``memory``. Raises :class:`ConfigError` when it is not such memory: it might vanish under us; OSError."""
        fd = memory.fileno()
        try:
            seals = memfd.seals(fd)
        except OSError:
            seals = 0
        if seals & _SEALS != _SEALS:
            raise ConfigError("a lane's memory can change its size")
        if size != LANE_BYTES or os.fstat(fd).st_size != size:
            raise ConfigError(f"a lane's memory is not {LANE_BYTES} bytes")
        if unreadable := memfd.unreadable(fd):
            raise ConfigError(f"a lane's memory {unreadable}")
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, **_MAP_OPTIONS) if mapped else None
        self._memory = memory
        if mapped:
            memory.close()
            # Only in a job: it sets how the whole process allocates. glibc gives free memory back to the kernel above twice the largest
            # block that it ever mapped on its own and freed; memory of 64 KiB bodies would go back and come again, a fault for each page.
            bytes(LANE_BYTES)
        self.position = 0
        self._body = self._room = memoryview(b"")  # of the body that is under way: to read, to write
        self._filled = 0

    @property
    def is_busy(self) -> bool:
        """A body has begun and not ended."""
        return bool(self._room)

    def take(self, size: int, part: int, last: bool) -> bytes | memoryview:
        """Copy the next part of a body of ``size`` bytes; the body with its last part, before that nothing. Raises :class:`ConfigError`."""
        if not 0 < part <= LANE_PART_BYTES:
            raise ConfigError(f"a part of {part} bytes in a lane")
        begin = self.position
        at = begin % LANE_BYTES
        if at + part > LANE_BYTES:
            begin, at = begin - at + LANE_BYTES, 0
        self.position = (begin + part + LANE_ALIGN_BYTES - 1) & -LANE_ALIGN_BYTES
        if not self._room:
            if last and size == part:
                return os.pread(self._memory.fileno(), part, at) if self._map is None else self._map[at : at + part]
            self._begin(size)
        end = self._filled + part
        if size != len(self._room) or (end != size if last else end >= size):
            raise ConfigError(f"{part} bytes after {self._filled} are not the next part of a body of {size} bytes")
        if self._map is None:
            os.preadv(self._memory.fileno(), [self._room[self._filled : end]], at)
        else:
            with memoryview(self._map) as lane:
                self._room[self._filled : end] = lane[at : at + part]
        self._filled = end
        if not last:
            return b""
        body, self._body, self._room = self._body, memoryview(b""), memoryview(b"")
        return body

    def _begin(self, size: int) -> None:
        try:
            room = memoryview(ffi.buffer(_new_room("char[]", size)))
        except MemoryError:
            raise ConfigError(f"there is no memory for a body of {size} bytes") from None
        self._room, self._body, self._filled = room, room.toreadonly(), 0

    def close(self) -> None:
        self._body = self._room = memoryview(b"")
        self._memory.close()
        if self._map is not None:
            self._map.close()
