# SPDX-License-Identifier: Apache-2.0
"""What workers are asked to do."""

from __future__ import annotations

import time


def add(number: int) -> int:
    """One more."""
    return number + 1


def nap(seconds: float, value: int = 0) -> int:
    """Take that long."""
    time.sleep(seconds)
    return value


def refuse(text: str) -> None:
    """Raise."""
    raise ValueError(text)
