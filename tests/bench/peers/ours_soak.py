# SPDX-License-Identifier: Apache-2.0
"""ours_soak JOBS WARM_UP: jobs of mixed fates, 16 at once; what the supervisor holds is counted before and after."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import supervisor
from tests.bench.peers.measure import CORE, NOFILE, STACK, descriptors, resident_kib, turns

IN_FLIGHT = 16
LIMITS = supervisor.Limits(limit_nofile=NOFILE, limit_core=CORE, limit_stack=STACK)
MISSING = "/nonexistent/program"
UNITS = {"memory": "KiB", "fds": "descriptors", "threads": "threads", "cgroups": "directories", "zombies": "processes"}


@dataclass(frozen=True)
class Holding:
    """What this process holds at one moment."""

    memory: float
    fds: float
    threads: int
    cgroups: int
    zombies: int

    @classmethod
    def now(cls) -> Holding:
        """Count it."""
        gc.collect()
        return cls(resident_kib(), descriptors(), len(os.listdir("/proc/self/task")), cgroups(), zombies())


def cgroups() -> int:
    """Directories in the cgroup trees of supervisors of this process (each names its own by our process ID)."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    mine = f"-{os.getpid()}"
    return sum(1 for mount in mounts for place, _, _ in os.walk(mount) if "/ringfence-" in place and mine in place)


def zombies() -> int:
    """Children that have ended and were not reaped."""
    count, me = 0, str(os.getpid())
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        count += state == "Z" and parent == me
    return count


async def one(sup: supervisor.Supervisor, turn: int) -> None:
    """One job of one of five fates."""
    fate = turn % 5
    if fate == 0:
        job = await sup.start(["/bin/true"], limits=LIMITS)
        wanted = "ok"
    elif fate == 1:
        job = await sup.start(["/bin/false"])
        wanted = "nonzero_exit"
    elif fate == 2:
        job = await sup.start(["/bin/echo", "words"], limits=LIMITS, capture_output=True)
        wanted = "ok"
    elif fate == 3:
        job = await sup.start(["/bin/sleep", "60"], limits=supervisor.Limits(wall_time_max="5ms"))
        wanted = "wall_limit"
    else:
        job = await sup.start([MISSING])
        wanted = "start_failed"
    outcome = await job.wait()
    if outcome.verdict != wanted:
        raise SystemExit(f"wanted {wanted}: {outcome}")


async def batch(sup: supervisor.Supervisor, count: int) -> None:
    """``count`` jobs, some at once."""

    async def work(left: Iterator[int]) -> None:
        for turn in left:
            await one(sup, turn)

    left = turns(count)
    await asyncio.gather(*(work(left) for _ in range(IN_FLIGHT)))


def report(start: Holding, middle: Holding, end: Holding) -> None:
    """Print what was held at the three moments, and how much more at the last than at the first."""
    for name, unit in UNITS.items():
        held = [getattr(moment, name) for moment in (start, middle, end)]
        for moment, amount in zip(("start", "middle", "end"), held, strict=True):
            print(f"{name}_{moment} {amount:.0f} {unit}")
        print(f"{name}_growth {held[2] - held[0]:.0f} {unit}")


async def main() -> None:
    """Run the contender."""
    jobs, warm = int(sys.argv[1]), int(sys.argv[2])
    async with supervisor.Supervisor() as sup:
        await batch(sup, warm)
        start, begun = Holding.now(), time.monotonic()
        await batch(sup, jobs // 2)
        middle = Holding.now()
        await batch(sup, jobs // 2)
        seconds, end = time.monotonic() - begun, Holding.now()
    report(start, middle, end)
    print(f"rate {jobs / seconds:.1f} jobs/s")


asyncio.run(main())
