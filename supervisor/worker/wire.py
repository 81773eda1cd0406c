# SPDX-License-Identifier: Apache-2.0
"""The frames between a pool and its Python workers: sixteen bytes of header, then the body.

The header is two little-endian words of eight bytes: the length of the body times 256 plus the kind, and
the number of the task. Bodies are pickles of protocol 5. Read by both sides, so it imports almost nothing.
"""

from __future__ import annotations

from mmap import MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: (length of the body << 8 | kind, number of the task)
HEADER: Final = Struct("<QQ")
HEADER_BYTES: Final = HEADER.size
#: The shared word: the number of the task that the worker is at, or was last at.
WORD: Final = Struct("<Q")
WORD_BYTES: Final = 8
KIND_BITS: Final = 8
KIND_MASK: Final = 255
PROTOCOL: Final = 5
#: What is read at once.
READ_BYTES: Final = 1 << 18
#: From here on a body is not joined to its header: copying costs more than a second buffer.
LARGE_BYTES: Final = 1 << 16

# to the worker
PREPARE: Final = 1  # a dict: see prepare.py
TASK: Final = 2  # (function, args, kwargs)
# from the worker
READY: Final = 3  # prepared; number 0
RESULT: Final = 4  # what the function returned
RAISED: Final = 5  # (the traceback as text, a one-line summary, the pickle of the exception or None)
UNSENT: Final = 6  # the same: the function returned what cannot be pickled

# between a pool and its template, one packet each: what to take over, what to import; then requests to fork
MESSAGE_BYTES: Final = 1 << 20
TEMPLATE_READY: Final = b"ready"
#: The answer to a request: pid, or -1; stage, errno and index of what failed.
REPLY: Final = Struct("<iiii")


def header(kind: int, number: int, size: int) -> bytes:
    """The header of a frame whose body has ``size`` bytes."""
    return HEADER.pack(size << KIND_BITS | kind, number)


def large_room(size: int) -> mmap:
    """Memory for one large body, by huge pages where the host has them; what is not filled yet costs none. Raises OSError."""
    room = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    try:
        room.madvise(MADV_HUGEPAGE)  # touching 16 MiB for the first time page by page takes longer than copying it
    except OSError:  # a kernel without
        pass
    return room
