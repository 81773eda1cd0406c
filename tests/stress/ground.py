# SPDX-License-Identifier: Apache-2.0
"""Ground: what the actors of one round share, and the claims that all of them make."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TypeVar

from supervisor import Job, Outcome, Supervisor
from tests.stress.kills import Killer

T = TypeVar("T")
#: Nothing that is awaited here takes a second on an idle machine.
BOUND_SECONDS = 30.0


class Broken(Exception):
    """A claim does not hold."""


class Ground:
    """Owns what one round shares: the supervisor, the killer, the time, a scratch directory and the counts."""

    def __init__(self, sup: Supervisor, killer: Killer, scratch: Path, seed: str, bound: float = BOUND_SECONDS) -> None:
        self.sup = sup
        self.killer = killer
        self.scratch = scratch
        self.over = False
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self._seed = seed
        self._bound = bound
        self._names = 0

    def chance(self, name: str) -> random.Random:
        """Chances of one actor's own, the same for the same seed."""
        return random.Random(f"{self._seed}/{name}")

    def path(self) -> Path:
        """A name in the scratch directory that nobody else has."""
        self._names += 1
        return self.scratch / f"file-{self._names}"

    async def within(self, what: str, awaited: Awaitable[T]) -> T:
        """The result, which must come in time."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        clock = asyncio.timeout(self._bound)
        try:
            async with clock:
                return await awaited
        except TimeoutError as error:
            if clock.expired():
                raise Broken(f"{what} has not returned within {self._bound:g} s") from error
            raise
        finally:
            self.slowest[what] = max(self.slowest.get(what, 0.0), loop.time() - begun)

    def was_killed(self, outcome: Outcome, job: Job | None = None) -> bool:
        """It ended by the killer's SIGKILL; which ``job`` it was makes that sure."""
        killed = outcome.verdict == "signaled" and outcome.exit.signal == 9
        if killed and job is not None and job.id not in self.killer.jobs:
            raise Broken(f"job {job.id} was killed, and not by us: {outcome.summary()}")
        return killed

    def check_end(self, job: Job, outcome: Outcome, wanted: Iterable[str]) -> bool:
        """The verdict is one of those wanted (True), or it was killed (False)."""
        if self.was_killed(outcome, job):
            return False
        wanted = tuple(wanted)
        if outcome.verdict not in wanted:
            raise Broken(f"wanted {' or '.join(wanted)}: {outcome}")
        return True

    def claim(self, holds: bool, what: str) -> None:
        """Raises unless it holds."""
        if not holds:
            raise Broken(what)
