# SPDX-License-Identifier: Apache-2.0
"""socket_messages one-way|round-trip SIZE COUNT: a bare SOCK_SEQPACKET pair driven by plain Python; above 64 KiB in pieces."""

from __future__ import annotations

import os
import socket
import sys
import time

from tests.bench.peers.message_figures import Figures, Trips, body_of

PIECE = 1 << 17
BUFFER = 4 << 20


def one_way(ours: socket.socket, theirs: socket.socket, size: int, count: int) -> None:
    """The child sends, we receive."""
    pid = os.fork()
    body = body_of(size)
    if pid == 0:
        view = memoryview(body)
        for _ in range(count):
            for at in range(0, size, PIECE):
                theirs.send(view[at : at + PIECE])
        os._exit(0)
    figures, room = Figures(size), memoryview(bytearray(max(size, PIECE)))
    for _ in range(count):
        got = 0
        while got < size:
            got += ours.recv_into(room[got:])
        figures.received()
    figures.report()
    os.waitpid(pid, 0)


def round_trips(ours: socket.socket, theirs: socket.socket, size: int, count: int) -> None:
    """The child sends back what it gets."""
    pid = os.fork()
    if pid == 0:
        ours.close()
        while received := theirs.recv(PIECE):
            theirs.send(received)
        os._exit(0)
    theirs.close()
    trips, body = Trips(), body_of(size)
    for number in range(count + 200):
        if number == 200:
            trips.begin()
        began = time.perf_counter_ns()
        ours.send(body)
        ours.recv(PIECE)
        trips.took(time.perf_counter_ns() - began)
    trips.report()
    ours.close()
    os.waitpid(pid, 0)


def main(mode: str, size: int, count: int) -> None:
    """Run the contender."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    (one_way if mode == "one-way" else round_trips)(*pair, size, count)


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
