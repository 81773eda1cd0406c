# SPDX-License-Identifier: Apache-2.0
"""Hostile: exits at once with status 0 but leaves a daemon: forked twice, in a session of its own, deaf to SIGTERM.

The daemon keeps standard output open, so that whoever waits for its end would wait for ever. Prints the daemon's pid.
"""

from __future__ import annotations

import os
import signal
import time


def daemon(ready: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.write(ready, str(os.getpid()).encode("ascii"))
    os.close(ready)
    time.sleep(600)


def main() -> None:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            daemon(writing)
        os._exit(0)
    os.close(writing)
    os.wait()
    print(os.read(reading, 32).decode("ascii"), flush=True)


main()
