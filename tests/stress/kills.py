# SPDX-License-Identifier: Apache-2.0
"""Killer: SIGKILL for processes of every kind, at random moments, as anybody on the machine may send it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from supervisor import Job, Supervisor

#: A helper between us and the job's process, and its init.
GENERATIONS = 3


class Killer:
    """Owns the list of who may be killed, and the memory of who was."""

    def __init__(self, chance: random.Random, pause: tuple[float, float] = (0.01, 0.12)) -> None:
        self._chance = chance
        self._pause = pause
        self._kinds: dict[str, Callable[[], Iterable[Job]]] = {}
        self.jobs: set[int] = set()
        self.kills: Counter[str] = Counter()
        self.resting = False

    @contextmanager
    def hunting(self, kind: str, jobs: Callable[[], Iterable[Job]]) -> Iterator[None]:
        """Within, these may be killed. Kinds are chosen first, so that few of one kind are as endangered as many of another."""
        name = kind
        while name in self._kinds:
            name += "'"
        self._kinds[name] = jobs
        try:
            yield
        finally:
            del self._kinds[name]

    async def run(self) -> None:
        """Kill until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(*self._pause))
            if self._kinds and not self.resting:
                self._kill(self._chance.choice(list(self._kinds)))

    def _kill(self, name: str) -> None:
        jobs = [job for job in self._kinds[name]() if job.pid and not job.ended]
        if not jobs:
            return
        job = self._chance.choice(jobs)
        try:
            fd = os.pidfd_open(job.pid)
        except ProcessLookupError:
            return
        try:
            if is_ours(job.pid):  # not a stranger who has got its number meanwhile
                self.jobs.add(job.id)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                self.kills[name.rstrip("'")] += 1
        except ProcessLookupError:
            return
        finally:
            os.close(fd)


def is_ours(pid: int) -> bool:
    """It is a child of ours, or of a helper of ours."""
    for _ in range(GENERATIONS):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return False
        if pid == os.getpid():
            return True
    return False


def others(sup: Supervisor, *known: Callable[[], Iterable[Job]]) -> Callable[[], Iterable[Job]]:
    """The jobs of a supervisor that are none of the known."""
    return lambda: [job for job in sup.jobs if not any(job in jobs() for jobs in known)]
