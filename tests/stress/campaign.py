# SPDX-License-Identifier: Apache-2.0
"""Rounds of everything at once under one supervisor; after each nothing may be left, and over all of them nothing may grow."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from supervisor import Supervisor
from tests.stress.actors import ACTORS
from tests.stress.ground import BOUND_SECONDS, Broken, Ground
from tests.stress.holding import Holding, descriptor_count, memory_kib
from tests.stress.kills import Killer
from tests.stress.told import Told

#: More than all actors hold at their busiest, a tenth of what a leak would make of it within minutes.
MOST_DESCRIPTORS = 1500
MOST_THREADS = 40
EXECUTOR_THREADS = 3
#: What the allocator may keep of the busiest moment.
MOST_GROWTH_KIB = 6 * 1024
#: The end of a cgroup's removal and of a thread is not awaited by anybody.
PATIENCE_SECONDS = 5.0


class Report(NamedTuple):
    """What was done and held: ``memory_kib`` after each round."""

    seed: str
    rounds: int
    counts: Counter[str]
    kills: Counter[str]
    events: int
    jobs: int
    slowest: dict[str, float]
    most_descriptors: int
    most_threads: int
    memory_kib: list[int]
    held: Holding


def campaign(
    seconds: float,
    seed: str,
    actors: Sequence[str] = (),
    *,
    round_seconds: float = 10.0,
    bound: float = BOUND_SECONDS,
    say: Callable[[str], None] = lambda _: None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Report:
    """Go on for so long, on the event loop made by ``loop_factory``. Raises :class:`Broken`, alone or in a group, for the first claim that does not hold."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="ringfence-stress-") as scratch:
        os.environ["TMPDIR"] = scratch  # so that a work directory that is left is seen
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                return runner.run(_campaign(seconds, seed, actors or tuple(ACTORS), round_seconds, bound, Path(scratch), say))
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


async def _campaign(
    seconds: float, seed: str, actors: Sequence[str], round_seconds: float, bound: float, scratch: Path, say: Callable[[str], None]
) -> Report:
    threads = ThreadPoolExecutor(EXECUTOR_THREADS)
    asyncio.get_running_loop().set_default_executor(threads)
    list(threads.map(time.sleep, [0.05] * EXECUTOR_THREADS))  # all of them are there from the beginning
    counts: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    memory: list[int] = []
    most = [0, 0]
    first: Holding | None = None
    end = time.monotonic() + seconds
    async with Supervisor() as sup:
        told = Told(sup)
        follower = asyncio.create_task(told.follow())
        while not memory or time.monotonic() < end:
            number = len(memory)
            killer = Killer(random.Random(f"{seed}/{number}/kills"))
            ground = Ground(sup, killer, scratch, f"{seed}/{number}", bound)
            length = round_seconds if number else round_seconds / 3  # the first one warms up
            await _round(ground, actors, min(length, max(1.0, end - time.monotonic())), most)
            holding = await _quiet(first, sup, told, scratch)
            first = first or holding
            memory.append(holding.memory_kib)
            counts += ground.counts
            kills += killer.kills
            for what, took in ground.slowest.items():
                slowest[what] = max(slowest.get(what, 0.0), took)
            say(
                f"round {number}: {killer.kills.total()} kills, {told.ended} jobs, {ground.counts['messages']} messages, "
                f"{ground.counts['tasks']} tasks; {len(holding.descriptors)} descriptors, {holding.memory_kib} KiB"
            )
        events, jobs = told.events, told.ended
    await follower
    if memory[-1] - max(memory[:2]) > MOST_GROWTH_KIB:
        raise Broken(f"memory has grown: {memory} KiB after each round")
    return Report(seed, len(memory), counts, kills, events, jobs, slowest, most[0], most[1], memory, first or holding)


async def _round(ground: Ground, actors: Sequence[str], seconds: float, most: list[int]) -> None:
    """Every actor for so long, then until each has come to its end; the first claim that does not hold ends all."""
    async with asyncio.TaskGroup() as group:
        killer = group.create_task(ground.killer.run())
        watch = group.create_task(_watch(most))
        acts = [group.create_task(ACTORS[name].act(ground), name=name) for name in actors]
        _, late = await asyncio.wait(acts, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        ground.over = True
        ground.killer.resting = True
        if late:
            await asyncio.wait(acts, return_when=asyncio.FIRST_EXCEPTION)
        killer.cancel()
        watch.cancel()


async def _watch(most: list[int]) -> None:
    """What may not be exceeded at any time."""
    while True:
        held = (descriptor_count(), len(os.listdir("/proc/self/task")))
        most[:] = map(max, most, held)
        if held[0] > MOST_DESCRIPTORS or held[1] > MOST_THREADS:
            raise Broken(f"{held[0]} descriptors and {held[1]} threads")
        await asyncio.sleep(0.2)


async def _quiet(first: Holding | None, sup: Supervisor, told: Told, scratch: Path) -> Holding:
    """What is held when nothing runs; it must be no more than after the first round."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while True:
        await asyncio.sleep(0.05)
        holding = Holding.now(scratch)
        left = "" if first is None else holding.more_than(first)
        if holding.children or holding.shared_memory or holding.files or sup.jobs or told.open:
            jobs = [(job.id, job.state) for job in sup.jobs]
            left += f" left: {holding.children} {holding.shared_memory} {holding.files} jobs {jobs}, end untold {told.open}"
        if not left:
            return holding
        if time.monotonic() > patience:
            raise Broken(f"after a round: {left}")


def words(report: Report, memory_before: int) -> list[str]:
    """The report, line by line."""
    warm = report.memory_kib[min(1, len(report.memory_kib) - 1)]
    slowest = sorted(report.slowest.items(), key=lambda item: -item[1])[:5]
    return [
        f"seed {report.seed}: {report.rounds} rounds, {report.jobs} jobs, {report.events} events without a hole",
        "done: " + ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items())),
        "killed: " + ", ".join(f"{count} {name}" for name, count in sorted(report.kills.items())),
        f"at most {report.most_descriptors} descriptors and {report.most_threads} threads; "
        f"{len(report.held.descriptors)} and {report.held.threads} when nothing runs, after every round",
        f"memory: {memory_before} KiB before, {warm} when warm, {report.memory_kib[-1]} at the end",
        "slowest: " + ", ".join(f"{what} {took:.2f} s" for what, took in slowest),
    ]


__all__ = ["Report", "campaign", "memory_kib", "words"]
