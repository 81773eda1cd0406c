# SPDX-License-Identifier: Apache-2.0
"""Hostile: takes 8 MB every 10 ms and writes to each page of it, up to a ceiling of 400 MB that keeps the host safe.

At the ceiling it holds what it has and sleeps, so that a limit of less must end it.
"""

from __future__ import annotations

import time

STEP_BYTES = 8 << 20
CEILING_BYTES = 400 << 20

held: list[bytes] = []
while len(held) * STEP_BYTES < CEILING_BYTES:
    held.append(b"x" * STEP_BYTES)
    time.sleep(0.01)
print("reached its own ceiling", flush=True)
time.sleep(600)
