# SPDX-License-Identifier: Apache-2.0
"""Hostile: four children share 24 MiB with their parent, and then read it, or write it."""

import os
import sys

SIZE = 24 << 20
shared = bytearray(b"x") * SIZE
for _ in range(4):
    if os.fork() == 0:
        if sys.argv[1] == "write":
            for at in range(0, SIZE, 4096):
                shared[at] = 1
        else:
            assert sum(memoryview(shared)[::4096]) == ord("x") * SIZE // 4096
        os.kill(os.getpid(), 19)  # stays, stopped
for _ in range(4):
    os.waitpid(-1, os.WUNTRACED)
print("all five hold it")
