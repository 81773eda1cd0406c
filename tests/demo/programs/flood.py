# SPDX-License-Identifier: Apache-2.0
"""Hostile: writes to standard output without end."""

from __future__ import annotations

import os

LINES = b"all work and no play makes a dull job\n" * 1000
while True:
    os.write(1, LINES)
