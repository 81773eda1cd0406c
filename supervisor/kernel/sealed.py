# SPDX-License-Identifier: Apache-2.0
"""Sealed: bytes in memory that nobody can change any more, passed on as a descriptor."""

from __future__ import annotations

import mmap
import os

from supervisor.errors import ConfigError
from supervisor.kernel import memfd
from supervisor.kernel.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from _typeshed import ReadableBuffer

ALL_SEALS: Final = memfd.SEAL | memfd.SEAL_SHRINK | memfd.SEAL_GROW | memfd.SEAL_WRITE
#: st_blocks counts these.
BLOCK_BYTES: Final = 512


class Sealed(Descriptor):
    """Owns a memory file (memfd_create(2)) that is sealed against every change.

    One copy goes in; any number of receivers read it without another. The memory is charged to whoever
    sealed it and is freed with the last descriptor and view, also after SIGKILL.
    """

    __slots__ = ("_has_holes", "_size", "_view")

    def __init__(self, body: ReadableBuffer) -> None:
        """Copy ``body`` in and seal it; raises OSError (no memory, no descriptors) and leaves nothing then."""
        raw = memoryview(body).cast("B")
        self._view: memoryview | None = None
        self._size, self._has_holes = len(raw), False
        super().__init__(os.memfd_create("ringfence-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        try:
            while raw:
                raw = raw[os.write(self._fd, raw) :]
            memfd.add_seals(self._fd, ALL_SEALS)
        except BaseException:
            self.close()
            raise

    @classmethod
    def adopt(cls, fd: int, size: int, most_bytes: int) -> Sealed:
        """Take over a descriptor from somebody else.

        Raises :class:`ConfigError`, with the descriptor closed, when it is not sealed memory of exactly
        ``size`` bytes or larger than ``most_bytes``: then its content could change, or vanish under a reader;
        and when it cannot be read.
        """
        made = cls.__new__(cls)
        made._fd, made._size, made._view = fd, size, None
        try:
            seals = memfd.seals(fd)
        except OSError:
            seals = 0
        status = os.fstat(fd)
        made._has_holes = status.st_blocks * BLOCK_BYTES < size
        if seals & ALL_SEALS != ALL_SEALS:
            problem = "a body's memory is not sealed"
        elif unreadable := memfd.unreadable(fd):
            problem = f"a body's memory {unreadable}"
        elif status.st_size != size:
            problem = "a body's memory has another size than announced"
        elif size > most_bytes:
            problem = f"a body of {size} bytes is larger than {most_bytes}"
        else:
            return made
        made.close()
        raise ConfigError(problem)

    def __len__(self) -> int:
        return self._size

    def view(self) -> memoryview:
        """A read-only view of the memory itself; it stays valid after :meth:`close`.

        Of a copy when its sender left pages out: touched in a mapping each would be made then, charged to whoever
        reads and kept for as long as the sender keeps its descriptor.
        """
        if self._view is None:
            if self._has_holes:
                self._view = self._copy()
            elif self._size:
                self._view = memoryview(mmap.mmap(self._fd, self._size, mmap.MAP_SHARED, mmap.PROT_READ))
            else:
                self._view = memoryview(b"")
        return self._view

    def _copy(self) -> memoryview:
        room, at = bytearray(self._size), 0
        with memoryview(room) as rest:
            while at < self._size:  # one call reads 2 GiB at most
                at += os.preadv(self._fd, [rest[at:]], at)
        return memoryview(room).toreadonly()

    def __enter__(self) -> Sealed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
