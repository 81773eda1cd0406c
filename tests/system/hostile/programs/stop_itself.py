# SPDX-License-Identifier: Apache-2.0
"""Hostile: stops itself and its group."""

import os
import signal

os.fork()
os.kill(0, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
