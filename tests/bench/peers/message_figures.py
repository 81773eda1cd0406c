# SPDX-License-Identifier: Apache-2.0
"""How every contender that carries messages measures."""

from __future__ import annotations

import os
import time


def body_of(size: int) -> bytes:
    """Bytes that do not compress."""
    return os.urandom(size)


class Figures:
    """The rate at the receiver, from the first message to the last."""

    def __init__(self, size: int) -> None:
        self._size, self._count, self._began_ns = size, 0, 0

    def received(self) -> None:
        """Another message was received."""
        if not self._count:
            self._began_ns = time.perf_counter_ns()
        self._count += 1

    def report(self) -> None:
        """Print them."""
        rate = (self._count - 1) / (time.perf_counter_ns() - self._began_ns) * 1e9
        print(f"rate {rate:.1f} msgs/s\nspeed {rate * self._size / 1e9:.4f} GB/s")


class Trips:
    """Times of round trips and their rate."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._began_ns = 0

    def begin(self) -> None:
        """Forget what warmed up."""
        self._times.clear()
        self._began_ns = time.perf_counter_ns()

    def took(self, time_ns: int) -> None:
        """One trip."""
        self._times.append(time_ns)

    def report(self) -> None:
        """Print them."""
        rate = len(self._times) / (time.perf_counter_ns() - self._began_ns) * 1e9
        times = sorted(self._times)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            print(f"{name} {times[int((len(times) - 1) * share)] / 1e3:.1f} us")
        print(f"rate {rate:.1f} trips/s")
