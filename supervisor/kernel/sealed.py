# SPDX-License-Identifier: Apache-2.0
"""Sealed: bytes in memory that nobody can change any more, passed on as a descriptor."""

from __future__ import annotations

import fcntl
import mmap
import os

from supervisor.errors import ConfigError
from supervisor.kernel.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from _typeshed import ReadableBuffer

#: fcntl(2) numbers, which Python names since 3.9 only in part: F_ADD_SEALS, F_GET_SEALS; SEAL, SHRINK, GROW, WRITE.
ADD_SEALS: Final = 1033
GET_SEALS: Final = 1034
ALL_SEALS: Final = 0xF


class Sealed(Descriptor):
    """Owns a memory file (memfd_create(2)) that is sealed against every change.

    One copy goes in; any number of receivers read it without another. The memory is charged to whoever
    sealed it and is freed with the last descriptor and view, also after SIGKILL.
    """

    __slots__ = ("_size", "_view")

    def __init__(self, body: ReadableBuffer) -> None:
        """Copy ``body`` in and seal it; raises OSError (no memory, no descriptors) and leaves nothing then."""
        raw = memoryview(body).cast("B")
        self._view: memoryview | None = None
        self._size = len(raw)
        super().__init__(os.memfd_create("ringfence-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        try:
            while raw:
                raw = raw[os.write(self._fd, raw) :]
            fcntl.fcntl(self._fd, ADD_SEALS, ALL_SEALS)
        except BaseException:
            self.close()
            raise

    @classmethod
    def adopt(cls, fd: int, size: int, most_bytes: int) -> Sealed:
        """Take over a descriptor from somebody else.

        Raises :class:`ConfigError`, with the descriptor closed, when it is not sealed memory of exactly
        ``size`` bytes or larger than ``most_bytes``: then its content could change, or vanish under a reader.
        """
        made = cls.__new__(cls)
        made._fd, made._size, made._view = fd, size, None
        try:
            seals = fcntl.fcntl(fd, GET_SEALS)
        except OSError:
            seals = 0
        if seals & ALL_SEALS != ALL_SEALS:
            problem = "a body's memory is not sealed"
        elif os.fstat(fd).st_size != size:
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
        """A read-only view of the memory itself; it stays valid after :meth:`close`."""
        if self._view is None:
            if self._size:
                self._view = memoryview(mmap.mmap(self._fd, self._size, mmap.MAP_SHARED, mmap.PROT_READ))
            else:
                self._view = memoryview(b"")
        return self._view

    def __enter__(self) -> Sealed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
