# SPDX-License-Identifier: Apache-2.0
"""Use the processor: argv is the number of processes, of threads in each, and the processor seconds each thread may use at most."""

import hashlib
import os
import sys
import threading
import time

processes, threads, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
BLOCK = bytes(1 << 20)  # hashing this much lets the other threads run


def spin() -> None:
    while time.thread_time() < seconds:
        hashlib.sha256(BLOCK)


def spin_all() -> None:
    others = [threading.Thread(target=spin) for _ in range(threads - 1)]
    for other in others:
        other.start()
    spin()
    for other in others:
        other.join()


pids = []
for _ in range(processes - 1):
    pid = os.fork()
    if pid == 0:
        spin_all()
        os._exit(0)
    pids.append(pid)
spin_all()
for pid in pids:
    os.waitpid(pid, 0)
