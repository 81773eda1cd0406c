# SPDX-License-Identifier: Apache-2.0
"""Hostile: waits for input from a pipe that nobody writes to, using nothing and saying nothing."""

from __future__ import annotations

import os

reading, _writing = os.pipe()
os.read(reading, 1)
