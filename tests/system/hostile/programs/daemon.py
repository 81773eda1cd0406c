# SPDX-License-Identifier: Apache-2.0
"""Hostile: leaves a daemon behind: double fork, a session of its own, deaf."""

import os
import signal

if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        signal.pause()
