# SPDX-License-Identifier: Apache-2.0
"""Decisions of a pool: how many workers, who is worn out, who may go, when to give up, how far to send ahead.

Pure: everything is numbers and times (CLOCK_MONOTONIC, nanoseconds) that the caller has looked up.
"""

from __future__ import annotations

from supervisor.model.outcome import Verdict
from supervisor.model.service import SIGNALS
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from supervisor.model.outcome import Outcome

#: Work that is sent ahead to one worker shall take about this long, so that what waits behind a slow task is little.
AHEAD_NS: Final = 2_000_000
AHEAD_MAX: Final = 64
#: So many workers in a row that fail by themselves are a crash loop: none of them will ever work.
FAULTS_MAX: Final = 5
#: Workers killed from outside are none, while any work is done. So many in a row without one answer, and it never will be:
#: a killer leaves no worker the time to start, or what kills cannot be told from one (the host's OOM killer, without cgroups).
KILLS_MAX: Final = 100
#: A worker that was ready for so long is no part of a crash loop.
SETTLED_NS: Final = 10_000_000_000
#: What people and service managers end processes with; a program's own mistakes are SIGSEGV, SIGABRT and their like.
KILLING_SIGNALS: Final = frozenset(SIGNALS[name] for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGKILL"))


@value
class Sizes:
    """How many workers: at least ``least``, at most ``most``, ``spare`` of them free; idle longer than ``idle_ns`` they go."""

    least: int
    most: int
    spare: int
    idle_ns: int


def to_start(sizes: Sizes, workers: int, free: int, waiting: int) -> int:
    """How many workers to start now. ``free``: those of ``workers`` that are idle or still starting; ``waiting``: tasks."""
    busy = workers - free
    wanted = min(sizes.most, max(sizes.least, busy + waiting + sizes.spare))
    return max(0, wanted - workers)


def to_dismiss(sizes: Sizes, workers: int, idle_since_ns: Sequence[int], now_ns: int) -> int:
    """How many of the idle workers may go: those idle longest, which come first."""
    over = sum(1 for since in idle_since_ns if now_ns - since >= sizes.idle_ns)
    return max(0, min(over, workers - sizes.least, len(idle_since_ns) - sizes.spare))


@value
class Wear:
    """When a worker is replaced: after so many tasks, nanoseconds, resident bytes; None is never."""

    tasks_max: int | None = None
    age_max_ns: int | None = None
    memory_max_bytes: int | None = None


def worn(wear: Wear, tasks: int, age_ns: int, memory_bytes: int) -> str:
    """Why the worker is to be replaced (``tasks``, ``age``, ``memory``), or nothing."""
    if wear.tasks_max is not None and tasks >= wear.tasks_max:
        return "tasks"
    if wear.age_max_ns is not None and age_ns >= wear.age_max_ns:
        return "age"
    if wear.memory_max_bytes is not None and memory_bytes >= wear.memory_max_bytes:
        return "memory"
    return ""


@value
class CrashLoop:
    """Workers that ended in a row, with no answer between: ``faults`` by themselves, ``kills`` by somebody's signal."""

    faults: int = 0
    kills: int = 0

    @property
    def reached(self) -> bool:
        """It makes no sense to start another one."""
        return self.faults >= FAULTS_MAX or self.kills >= KILLS_MAX


def ended(loop: CrashLoop, outcome: Outcome, *, ready: bool, life_ns: int) -> CrashLoop:
    """A worker has ended before it was given anything that could be to blame.

    ``ready`` for ``life_ns`` nanoseconds, or since its start when it never was. One that was ready for long has shown
    that workers can be had, whatever ended it.
    """
    if ready and life_ns >= SETTLED_NS:
        return loop
    if is_kill(outcome):
        return replace(loop, kills=loop.kills + 1)
    return replace(loop, faults=loop.faults + 1)


def answered(loop: CrashLoop) -> CrashLoop:
    """A worker has done a task: whatever was before is forgotten."""
    return CrashLoop() if loop.faults or loop.kills else loop


def is_kill(outcome: Outcome) -> bool:
    """The end was somebody's wish, not a limit's and not the process's own fault: nothing says that the next one ends so too."""
    return outcome.verdict == Verdict.SIGNALED and outcome.exit.signal in KILLING_SIGNALS


def paced(task_ns: int, answers: int, elapsed_ns: int) -> int:
    """The time of one task, after ``answers`` came within ``elapsed_ns``; slower counts at once, quicker within a few answers.

    Not later: where others keep the processors busy, a worker that had to wait for one looks slow again and again.
    """
    seen = elapsed_ns // max(1, answers)
    return seen if seen > task_ns else (task_ns + 3 * seen) // 4


def ahead(task_ns: int, waiting: int, workers: int) -> int:
    """How many tasks of one map a worker may hold: little time's worth, and no more than its share of those waiting.

    ``task_ns`` 0: nothing is known of their time yet.
    """
    if task_ns <= 0:
        return 1
    share = -(-waiting // max(1, 2 * workers))
    return max(1, min(AHEAD_MAX, AHEAD_NS // task_ns, share))
