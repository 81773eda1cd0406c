# SPDX-License-Identifier: Apache-2.0
"""Packet sockets: the pair that a channel begins with, and writing one packet."""

from __future__ import annotations

import _socket  # the C module: ``socket`` around it costs 8 ms to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: Asked for at both ends: many packets on their way. The kernel grants what net.core.wmem_max allows, more only to root.
SOCKET_BUFFER_BYTES: Final = 4 << 20
SO_SNDBUFFORCE: Final = 32
_FLAGS: Final = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL


def make_pair() -> tuple[int, int]:
    """Two connected descriptors (SOCK_SEQPACKET, close-on-exec); raises OSError."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    for end in (ours, theirs):
        try:
            end.setsockopt(_socket.SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)
        except PermissionError:
            end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    return ours.detach(), theirs.detach()


def send_packet(socket: _socket.socket, pieces: list[bytes], descriptors: tuple[int, ...] = ()) -> None:
    """Write one packet without waiting; raises BlockingIOError while the socket is full, OSError at its end."""
    if descriptors:
        rights = b"".join([fd.to_bytes(4, "little", signed=True) for fd in descriptors])
        socket.sendmsg(pieces, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _FLAGS)
    elif len(pieces) == 1:
        socket.send(pieces[0], _FLAGS)
    else:
        socket.sendmsg(pieces, [], _FLAGS)
