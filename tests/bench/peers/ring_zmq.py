# SPDX-License-Identifier: Apache-2.0
"""ring_zmq SIZE COUNT: a child pushes messages, we pull them, with pyzmq over a unix socket."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time

import zmq  # type: ignore[import-not-found,unused-ignore]

from tests.bench.peers.measure import report_messages


def push(address: str, size: int, count: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(address)
    message = b"m" * size
    for _ in range(count):
        socket.send(message)
    socket.close()


def main() -> None:
    """Run the contender."""
    size, count = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        socket = zmq.Context().socket(zmq.PULL)
        socket.bind(f"ipc://{folder}/socket")
        child = multiprocessing.get_context("spawn").Process(target=push, args=(f"ipc://{folder}/socket", size, count))
        child.start()
        socket.recv()
        begun = time.monotonic()
        for _ in range(count - 1):
            socket.recv()
        report_messages(count - 1, size, begun)
        child.join()
        socket.close()


if __name__ == "__main__":
    main()
