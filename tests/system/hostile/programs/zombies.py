# SPDX-License-Identifier: Apache-2.0
"""Hostile: makes hundreds of orphans that end at once, and keeps zombies of its own."""

import os
import time


def fork():
    """Fork, waiting for room: what has ended and is not reaped yet takes it."""
    for _ in range(20_000):
        try:
            return os.fork()
        except BlockingIOError:
            time.sleep(0.001)
    raise SystemExit("nobody reaps the orphans")


for _ in range(200):
    child = fork()
    if child == 0:
        fork()
        os._exit(0)
    os.waitpid(child, 0)
for _ in range(8):
    if fork() == 0:
        os._exit(0)
print("orphans are reaped")
