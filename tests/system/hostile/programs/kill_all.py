# SPDX-License-Identifier: Apache-2.0
"""Hostile: sends signals to everybody: all processes, its parent, process 1, the supervisor."""

import os
import signal
import sys

from attack import attempt

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    for pid in (-1, int(sys.argv[1])):
        if pid != -1 or number != signal.SIGTERM:
            attempt(f"signal {number} to {'all' if pid == -1 else 'the supervisor'}", lambda pid=pid, number=number: os.kill(pid, number))
for number in range(1, 65):  # the kernel drops what comes from inside, or refuses it
    for pid in {1, os.getppid()}:
        try:
            os.kill(pid, number)
        except OSError:
            pass
print("alive, and so is", open("/proc/1/comm").read().strip())
