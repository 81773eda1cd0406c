# SPDX-License-Identifier: Apache-2.0
"""ring_multiprocessing queue|pipe|shared SIZE COUNT: a child writes messages, we read them, with the standard library.

``shared``: multiprocessing.shared_memory, four blocks in turn, copied in by the child and out by us, named through a pipe each
way.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from tests.bench.peers.measure import block_memory, report_messages

SLOTS = 4


def put(queue: Any, size: int, count: int) -> None:
    message = b"m" * size
    for _ in range(count):
        queue.put(message)


def send(pipe: Connection, size: int, count: int) -> None:
    message = b"m" * size
    for _ in range(count):
        pipe.send_bytes(message)


def share(pipe: Connection, names: list[str], size: int, count: int) -> None:
    message = b"m" * size
    blocks = [SharedMemory(name) for name in names]
    views = [block_memory(block) for block in blocks]
    for _ in range(count):
        number = pipe.recv_bytes()[0]
        views[number][:size] = message
        pipe.send_bytes(bytes([number]))
    close(blocks, views)


def close(blocks: list[SharedMemory], views: list[memoryview]) -> None:
    views.clear()
    for block in blocks:
        block.close()


def main() -> None:
    """Run the contender."""
    how, (size, count) = sys.argv[1], map(int, sys.argv[2:])
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe(duplex=True)
    blocks = [SharedMemory(create=True, size=size) for _ in range(SLOTS)] if how == "shared" else []
    queue = context.Queue(1000) if how == "queue" else None
    views = [block_memory(block) for block in blocks]
    arguments: dict[str, tuple[Any, ...]] = {
        "queue": (queue, size, count),
        "pipe": (far, size, count),
        "shared": (far, [block.name for block in blocks], size, count),
    }
    targets: dict[str, Callable[..., None]] = {"queue": put, "pipe": send, "shared": share}
    child = context.Process(target=targets[how], args=arguments[how])
    child.start()
    far.close()
    for n in range(len(blocks)):
        near.send_bytes(bytes([n]))

    def take() -> bytes:
        if queue is not None:
            return bytes(queue.get())
        if not blocks:
            return near.recv_bytes()
        number = near.recv_bytes()
        content = bytes(views[number[0]][:size])
        with contextlib.suppress(BrokenPipeError):  # the last few are for nobody
            near.send_bytes(number)
        return content

    take()
    begun = time.monotonic()
    for _ in range(count - 1):
        take()
    report_messages(count - 1, size, begun)
    child.join()
    close(blocks, views)
    for block in blocks:
        block.unlink()


main()
