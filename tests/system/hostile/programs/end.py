# SPDX-License-Identifier: Apache-2.0
"""Hostile: ends as told: with a code, or by a signal of its own."""

import os
import signal
import sys

kind, number = sys.argv[1], int(sys.argv[2])
if kind == "exit":
    os._exit(number)
if number != signal.SIGKILL:
    signal.signal(number, signal.SIG_DFL)  # the interpreter ignores some
os.kill(os.getpid(), number)
