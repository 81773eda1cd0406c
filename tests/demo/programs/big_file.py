# SPDX-License-Identifier: Apache-2.0
"""Hostile: writes one file, up to a ceiling of 64 MB that keeps the host safe, then exits 0.

usage: big_file.py FILE
Python ignores SIGXFSZ; like any other program, this one does not.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with Path(sys.argv[1]).open("wb", buffering=0) as file:
    file.writelines(bytes(1 << 20) for _ in range(64))
