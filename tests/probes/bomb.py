# SPDX-License-Identifier: Apache-2.0
"""Use up memory: argv is how many generations down the bomb sits and how many MiB it takes at most.

The processes above it wait and exit 0 whatever became of it.
"""

import os
import sys

depth, most = int(sys.argv[1]), int(sys.argv[2])
for _ in range(depth):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os._exit(0)
held = []
for _ in range(most):
    block = bytearray(1 << 20)
    block[::4096] = b"x" * 256
    held.append(block)
