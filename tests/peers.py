# SPDX-License-Identifier: Apache-2.0
"""The other end of channels in tests: Python and C children, and ends held by the test itself."""

from __future__ import annotations

import functools
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from waiting import SLOW

from supervisor.kernel.packet_socket import make_pair
from supervisor.kernel.peer import Peer
from supervisor.model import frames
from supervisor.model.frames import Terms, decode, encode, encode_ack

if TYPE_CHECKING:
    from supervisor.model.frames import Frame

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "peer.c"
LONG = 20.0 * SLOW

#: Answers requests with the body in reverse, echoes everything else with its kind; some bodies are orders.
ECHO = """
import os, sys, time
import supervisor
peer = supervisor.connect()
for message in peer:
    body = bytes(message.body)
    if body == b"die":
        os.kill(os.getpid(), 9)
    elif body == b"stop reading":
        while True:
            time.sleep(60)
    elif body == b"close":
        break
    elif body == b"fail":
        peer.refuse(message, "cannot do that")
    elif body == b"silence":
        pass
    elif message.wants_reply:
        peer.reply(message, body[::-1])
    else:
        to, _, rest = body.partition(b":") if body.startswith(b"@") else (b"", b"", body)
        peer.send(rest, kind=message.kind, to=to[1:].decode(), descriptors=message.descriptors)
"""


def peer_program(code: str = ECHO) -> list[str]:
    """The command of a child that runs ``code``."""
    return [sys.executable, "-c", code]


@functools.cache
def example_in_c() -> str:
    """docs/examples/peer.c, built."""
    compiler = shutil.which("cc")
    assert compiler is not None
    target = os.path.join(tempfile.mkdtemp(prefix="ringfence-test-"), "peer")
    subprocess.run([compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", target, str(EXAMPLE)], check=True)
    return target


class RawEnd:
    """One end of a pair as a plain socket: whatever a hostile peer may write."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.settimeout(LONG)

    def hello(self, terms: Terms = Terms()) -> None:
        """State terms, as a well-behaved peer does first."""
        self.write(encode_ack(0, terms))

    def write(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.socket, [packet], list(fds)) if fds else self.socket.send(packet)

    def message(self, number: int, body: bytes = b"", *, kind: int = frames.DATA, flags: int = 0, to: str = "") -> None:
        self.write(encode(kind, flags, number, to.encode(), len(body)) + body)

    def read(self) -> list[Frame]:
        """The frames of the next packet that is more than acknowledgements; empty at the end."""
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 64)
            except ConnectionResetError:  # once, because the other side closed with something of ours unread
                continue
            for fd in fds:
                os.close(fd)
            found = [frame for frame in decode(packet, 0, len(packet)) if frame[0] != frames.ACK]
            if found or not packet:
                return found

    def is_closed(self) -> bool:
        """The other side closes, whoever reads what it sent before; fails when it does not."""
        poll = select.poll()
        poll.register(self.socket, select.POLLHUP)
        return bool(poll.poll(LONG * 1000))

    def close(self) -> None:
        self.socket.close()


@contextmanager
def raw_pair() -> Iterator[tuple[int, RawEnd]]:
    """A descriptor for the product, which takes it over, and the other end for the test."""
    ours, theirs = make_pair()
    end = RawEnd(theirs)
    try:
        yield ours, end
    finally:
        end.close()


@contextmanager
def two(ours: Terms = Terms(), theirs: Terms = Terms()) -> Iterator[tuple[Peer, Peer]]:
    first, second = make_pair()
    with Peer(first, ours) as a, Peer(second, theirs) as b:
        yield a, b


@contextmanager
def working(work: Callable[[], object]) -> Iterator[None]:
    """``work`` in a thread; what it raises fails the test."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
    assert not thread.is_alive()
    assert not problems
