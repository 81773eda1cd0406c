# SPDX-License-Identifier: Apache-2.0
"""ours_ring many|one|into|view SIZE COUNT CAPACITY: a child writes messages, we read them, through a ring of ours.

``many``: lists of messages on both sides. ``one``: a call for each message on both sides. ``into``: a call each, copied into
one buffer again and again. ``view``: the child copies into one of four segments in turn and says which through a ring; we
look at it where it is, and give it back through another.
"""

from __future__ import annotations

import subprocess
import sys
import time

from supervisor import SharedMemory
from tests.bench.peers.measure import report_messages

BATCH_BYTES = 1 << 18
SLOTS = 4


def write(how: str, size: int, count: int) -> None:
    """The child."""
    writer = SharedMemory.open_writer("ring")
    message = b"m" * size  # of zeros it would be one page, always in the cache
    if how == "view":
        slots = [SharedMemory.open(f"slot{n}") for n in range(SLOTS)]
        free = SharedMemory.open_reader("free")
        for _ in range(count):
            number = free.read()[0]
            slots[number].write(message)
            writer.write(bytes([number]))
    elif how == "many":
        batch = [message] * max(1, min(4096, BATCH_BYTES // size))
        for first in range(0, count, len(batch)):
            writer.write_many(batch[: count - first])
    else:
        for _ in range(count):
            writer.write(message)
    writer.close()


def main() -> None:
    """Run the contender."""
    if sys.argv[1] == "child":
        write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    how, (size, count, capacity) = sys.argv[1], map(int, sys.argv[2:])
    ring, free = SharedMemory.create_ring("ring", capacity, prefault=True), SharedMemory.create_ring("free")
    slots = [SharedMemory.create(f"slot{n}", size, grant="rw", prefault=True) for n in range(SLOTS if how == "view" else 0)]
    reader, giver = ring.reader(), free.writer()
    hand = SharedMemory.hand_over(ring.grant_writer(), free.grant_reader(), *(slot.grant("rw") for slot in slots))
    command = [sys.executable, "-m", "tests.bench.peers.ours_ring", "child", how, str(size), str(count)]
    with subprocess.Popen(command, pass_fds=hand.pass_fds, env=hand.env):
        ring.release()
        free.release()
        giver.write_many([bytes([n]) for n in range(len(slots))])
        buffer = bytearray(size)
        first = done = len(reader.read_many(1))
        begun = time.monotonic()
        if how == "view":
            giver.write(b"\0")
            views = [slot.buffer for slot in slots]
            while done < count:
                number = reader.read()
                if views[number[0]][0] != b"m"[0] or views[number[0]][-1] != b"m"[0]:
                    raise SystemExit("wrong bytes")
                giver.write(number)
                done += 1
        else:
            while done < count:
                if how == "many":
                    done += len(reader.read_many())
                elif how == "into":
                    reader.read_into(buffer)
                    done += 1
                else:
                    reader.read()
                    done += 1
        report_messages(count - first, size, begun)


main()
