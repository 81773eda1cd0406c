# SPDX-License-Identifier: Apache-2.0
"""What the workers of the pool contenders are given, and how their figures are printed."""

from __future__ import annotations

import time


def nothing(given: int = 0) -> int:
    """The task."""
    return given


def first_answer(_: int = 0) -> str:
    """The first task of a fresh worker: numpy is there."""
    import numpy as np

    return np.__version__


def report_tasks(count: int, begun: float) -> None:
    """Print the rate since ``begun``."""
    print(f"rate {count / (time.perf_counter() - begun):.1f} tasks/s")


def report_trips(seconds: list[float]) -> None:
    """Print the round trips of single tasks."""
    values = sorted(seconds)
    print(f"p50 {values[len(values) // 2] * 1e6:.1f} us\np99 {values[int((len(values) - 1) * 0.99)] * 1e6:.1f} us")


def report_fresh(seconds: list[float]) -> None:
    """Print the starts of fresh workers."""
    values = sorted(seconds)
    print(f"fresh_p50 {values[len(values) // 2] * 1e3:.3f} ms\nfresh_least {values[0] * 1e3:.3f} ms")
