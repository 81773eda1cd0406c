# SPDX-License-Identifier: Apache-2.0
"""A connection that is told to linger keeps nobody waiting who was sent it (SO_LINGER, socket(7)): its last close would."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import SLOW

from supervisor.kernel.link import Link
from supervisor.kernel.native import close_given
from supervisor.kernel.notify_socket import NotifySocket
from supervisor.kernel.packet_socket import make_pair
from supervisor.model import frames

LINGERS_S = 30


@contextmanager
def lingering() -> Iterator[int]:
    """A connection with more in it than the other side takes; its descriptor is the caller's to close."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        with other:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS_S))
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    connection.send(bytes(1 << 16))
            yield connection.detach()


@contextmanager
def at_once() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < min(2 * SLOW, LINGERS_S / 2)


def send(end: socket.socket, packet: bytes, fd: int) -> None:
    socket.send_fds(end, [packet], [fd])
    os.close(fd)


GOOD = frames.encode(frames.DATA, 0, 1, b"", 0, 1)


@pytest.mark.parametrize("packet", [GOOD, b"no frame", b""], ids=["a message", "what breaks the rules", "an empty packet"])
@pytest.mark.parametrize("read", [True, False])
def test_a_channel_lets_it_go_at_once(packet: bytes, read: bool) -> None:
    ours, theirs = make_pair()
    link = Link(ours)
    with socket.socket(fileno=theirs) as end, lingering() as fd:
        end.send(b"" if packet == b"" and not read else frames.encode_ack(0, frames.Terms()))
        send(end, packet, fd)
        with at_once():
            if read:
                link.fill()
            link.close()
            link.inbox.clear()


def test_more_descriptors_than_a_message_may_have_are_let_go_at_once() -> None:
    ours, theirs = make_pair()
    link = Link(ours)
    with socket.socket(fileno=theirs) as end, lingering() as fd, open(os.devnull) as null:
        socket.send_fds(end, [GOOD], [null.fileno()] * 252 + [fd])
        os.close(fd)
        with at_once():
            link.fill()
            link.close()


@pytest.mark.parametrize("read", [True, False])
def test_a_notification_socket_lets_it_go_at_once(read: bool) -> None:
    notify = NotifySocket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, lingering() as fd:
        end.connect("\0" + notify.address[1:])
        send(end, b"READY=1", fd)
        with at_once():
            if read:
                received = notify.receive()
                assert received is not None
                close_given(received[1][0])
            notify.close()
