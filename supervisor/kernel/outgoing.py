# SPDX-License-Identifier: Apache-2.0
"""Outgoing: one frame on its way, and the descriptors that go with it."""

from __future__ import annotations

import os

from supervisor.kernel.native import close_given
from supervisor.kernel.sealed import Sealed
from supervisor.model import frames
from supervisor.model.frames import INLINE_MAX_BYTES, SEALED, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    #: One frame: number (0: not kept once written), what it takes of the window, head (with a short body joined), long body,
    #: descriptors, bytes of its sealed body. A tuple, because a channel makes hundreds of thousands of these a second.
    Outgoing = tuple[int, int, bytes, bytes, tuple[int, ...], int]

#: A body up to this is joined with its header: one piece is cheaper than two.
JOINED_MAX_BYTES: Final = 2048


def close_all(fds: Iterable[int]) -> None:
    """What is sent on may be somebody else's."""
    for fd in fds:
        close_given(fd)


def drop(remains: Iterable[Outgoing]) -> None:
    """Close what messages hold that nobody will send again."""
    for outgoing in remains:
        close_all(outgoing[4])


def wrap(body: bytes | Sealed, flags: int, descriptors: tuple[int, ...]) -> tuple[bytes, int, tuple[int, ...]]:
    """The body as it stands in a frame: itself, or the length of sealed memory whose descriptor comes first."""
    if isinstance(body, bytes) and len(body) <= INLINE_MAX_BYTES:
        return body, flags, descriptors
    try:
        fd = os.dup(body.fileno()) if isinstance(body, Sealed) else Sealed(body).detach()
    except BaseException:
        close_all(descriptors)
        raise
    return frames.SEALED_LENGTH.pack(len(body)), flags | SEALED, (fd, *descriptors)


def frame_of(
    kind: int, flags: int, number: int, kept: int, address: bytes, body: bytes, descriptors: tuple[int, ...], length: int
) -> Outgoing:
    size = len(body)
    head = encode(kind, flags, number, address, size, len(descriptors))
    total = len(head) + size
    if size <= JOINED_MAX_BYTES:
        head, body = head + body, b""
    return kept, total, head, body, descriptors, length if flags & SEALED else 0
