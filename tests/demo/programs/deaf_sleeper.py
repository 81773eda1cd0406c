# SPDX-License-Identifier: Apache-2.0
"""Hostile: sleeps, and answers SIGTERM with a line of text instead of ending."""

from __future__ import annotations

import os
import signal
import time


def stay(number: int, _frame: object) -> None:
    os.write(1, f"ignored {signal.Signals(number).name}\n".encode("ascii"))


for unwelcome in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(unwelcome, stay)
time.sleep(600)
