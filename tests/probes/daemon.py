# SPDX-License-Identifier: Apache-2.0
"""Leave descendants behind: argv is a shape and the descriptor on which each says its process id.

daemon: double fork and a session of its own; deaf: ignores every signal; stopped: stops itself;
many: eighty at once; chain: one that forks and exits again and again for ten seconds at most.
"""

import os
import signal
import sys
import time

shape, fd = sys.argv[1], int(sys.argv[2])


heard, told = os.pipe()


def say() -> None:
    """Say it to the test, and let the main process go on."""
    os.write(fd, b"%d\n" % os.getpid())
    os.write(told, b".")


def live() -> None:
    while True:
        signal.pause()


def detach() -> bool:
    """True in the detached grandchild."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True


if shape == "many":
    for _ in range(80):
        if os.fork() == 0:
            say()
            live()
elif detach():
    if shape == "deaf":
        for number in set(range(1, 32)) - {9, 19}:
            signal.signal(number, signal.SIG_IGN)
    if shape == "chain":
        deadline = time.monotonic() + 10
        say()
        while time.monotonic() < deadline:
            if os.fork():
                os._exit(0)
        os._exit(0)
    say()
    if shape == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    live()
left = 80 if shape == "many" else 1
while left:
    left -= len(os.read(heard, left))
if len(sys.argv) > 3:  # the main process stays too
    live()
