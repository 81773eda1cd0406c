# SPDX-License-Identifier: Apache-2.0
"""ours_shared_memory ours|standard SIZE COUNT: shared memory made, written once at both ends, and given back.

``make``: create to close of SIZE bytes, ``copy``: bytes copied into a block that is kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from multiprocessing import shared_memory

from supervisor import SharedMemory
from tests.bench.peers.measure import block_memory


def ours(size: int) -> None:
    """Ours, sealed."""
    with SharedMemory.create("bench", size) as block:
        view = block.buffer
        view[0] = view[-1] = 1


def standard(size: int) -> None:
    """The standard library's."""
    block = shared_memory.SharedMemory(create=True, size=size)
    view = block_memory(block)
    view[0] = view[-1] = 1
    del view
    block.close()
    block.unlink()


def main() -> None:
    """Run the contender."""
    how, (size, count) = sys.argv[1], map(int, sys.argv[2:])
    one: Callable[[int], None] = ours if how == "ours" else standard
    for _ in range(10):
        one(size)
    begun = time.monotonic()
    for _ in range(count):
        one(size)
    print(f"make {(time.monotonic() - begun) / count * 1e6:.2f} us")
    copies = max(10, count // 20)
    content = b"m" * size
    if how == "ours":
        with SharedMemory.create("bench", size, prefault=True) as segment:
            report(lambda: segment.write(content), size, copies)
    else:
        block = shared_memory.SharedMemory(create=True, size=size)
        view = block_memory(block)

        def write() -> None:
            view[:size] = content

        report(write, size, copies)
        block.close()
        block.unlink()


def report(write: Callable[[], None], size: int, copies: int) -> None:
    """Time the copies after one that touches the pages."""
    write()
    begun = time.monotonic()
    for _ in range(copies):
        write()
    print(f"copy {copies * size / (time.monotonic() - begun) / 1e9:.3f} GB/s")


main()
