# SPDX-License-Identifier: Apache-2.0
"""tool_spawn IN_FLIGHT COUNT COMMAND...: another sandbox's program by posix_spawn, so many at once."""

from __future__ import annotations

import os
import sys
import time

WARM = 8


def start(command: list[str]) -> None:
    """Begin one run."""
    os.posix_spawn(command[0], command, os.environ)


def reap() -> None:
    """Wait for the end of one run."""
    _, status = os.wait()
    if status != 0:
        raise SystemExit(f"failed: {status}")


def main() -> None:
    """Run the contender."""
    in_flight, count, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    for _ in range(WARM):
        start(command)
        reap()
    begun, running = time.monotonic(), 0
    for _ in range(count):
        if running == in_flight:
            reap()
            running -= 1
        start(command)
        running += 1
    for _ in range(running):
        reap()
    print(f"rate {count / (time.monotonic() - begun):.1f} runs/s")


main()
