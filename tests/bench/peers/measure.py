# SPDX-License-Identifier: Apache-2.0
"""What every Python contender measures in the same way."""

from __future__ import annotations

import os
import resource
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

WARM_SPAWNS = 32
WARM_EXITS = 10
WARM_CHILDREN = 8
#: Children start with these: descriptors, core file, stack.
NOFILE, CORE, STACK = 1024, 0, 8 << 20


def own_cpu() -> float:
    """CPU seconds of this process, its children not counted."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def three_rlimits() -> None:
    """What the contenders that take a preexec_fn do in the child."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (NOFILE, NOFILE))
    resource.setrlimit(resource.RLIMIT_CORE, (CORE, CORE))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))


def report_rate(count: int, cpu: float, begun: float) -> None:
    """Print the figures of a spawn contender that started at ``begun`` with ``cpu`` seconds used."""
    print(f"rate {count / (time.monotonic() - begun):.1f} spawns/s\ncpu {(own_cpu() - cpu) / count * 1e6:.1f} us/spawn")


def report_capture(size: int, cpu: float, begun: float) -> None:
    """Print the figures of a contender that has taken ``size`` bytes of output since ``begun``."""
    gib = size / (1 << 30)
    print(f"rate {gib / (time.monotonic() - begun):.3f} GiB/s\ncpu {(own_cpu() - cpu) / gib:.4f} s/GiB")


def report_messages(count: int, size: int, begun: float) -> None:
    """Print the figures of a message contender that has read ``count`` messages since ``begun``."""
    rate = count / (time.monotonic() - begun)
    print(f"rate {rate:.1f} msgs/s\nbytes {rate * size / 1e9:.4f} GB/s")


def block_memory(block: SharedMemory) -> memoryview:
    """The memory of an open block of the standard library."""
    if block.buf is None:
        raise ValueError("closed")
    return block.buf


def turns(count: int) -> Iterator[int]:
    """Shared by the workers of one batch: each takes the next turn until none is left."""
    return iter(range(count))


class ExitTimes:
    """Times of a child's end: from the parent's word (told) and from the child's own stamp (exit)."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.left: list[float] = []

    def add(self, told_ns: int, over_ns: int, hear: int) -> None:
        """Note one end; the child's stamp waits in the pipe ``hear``."""
        (stamp,) = struct.unpack("=Q", os.read(hear, 8))
        self.told.append((over_ns - told_ns) / 1e3)
        self.left.append((over_ns - stamp) / 1e3)

    def report(self) -> None:
        """Print the figures of an exit contender."""
        for name, values in (("exit", sorted(self.left)), ("told", sorted(self.told))):
            print(f"{name}_p50 {values[(len(values) - 1) // 2]:.1f} us\n{name}_p99 {values[int((len(values) - 1) * 0.99)]:.1f} us")


class Herd:
    """The figures of a supervisor of many children; create it before they start."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._memory, self._fds, self._begun = resident_kib(), descriptors(), time.monotonic()
        self._started = 0.0
        self._cpu, self._sleeps = 0.0, 0

    def started(self) -> None:
        """All children run."""
        self._started = time.monotonic() - self._begun

    def settled(self) -> None:
        """Begin of the idle time."""
        self._memory = (resident_kib() - self._memory) / self._count
        self._fds = (descriptors() - self._fds) / self._count
        self._cpu, self._sleeps = own_cpu(), sleeps()

    def idled(self, seconds: int) -> None:
        """End of the idle time, whose own end is one wake-up that does not count."""
        self._cpu, self._sleeps = (own_cpu() - self._cpu) * 1e3 / seconds, sleeps() - self._sleeps - 1
        self._begun = time.monotonic()

    def report(self) -> None:
        """All children are gone: print the figures."""
        print(f"start {self._started:.3f} s\nmemory {self._memory:.3f} KiB/child\nfds {self._fds:.3f} fds/child")
        print(f"idle_cpu {self._cpu:.3f} ms/s\nwakeups {self._sleeps} times\nstop {time.monotonic() - self._begun:.3f} s")


def resident_kib() -> float:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


def descriptors() -> float:
    """Descriptors this process has open."""
    return float(len(os.listdir("/proc/self/fd")))


def sleeps() -> int:
    """How often any thread of this process has gone to sleep and was woken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


Main = Callable[[], Coroutine[object, object, None]]
