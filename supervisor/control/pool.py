# SPDX-License-Identifier: Apache-2.0
"""Decisions of a pool: how many workers, who is worn out, who may go, when to give up, how far to send ahead.

Pure: everything is numbers and times (CLOCK_MONOTONIC, nanoseconds) that the caller has looked up.
"""

from __future__ import annotations

from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

#: Work that is sent ahead to one worker shall take about this long, so that what waits behind a slow task is little.
AHEAD_NS: Final = 2_000_000
AHEAD_MAX: Final = 64


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
class StartLimit:
    """``burst`` workers that end without a task being to blame within ``interval_ns`` are a crash loop."""

    burst: int
    interval_ns: int
    ends_ns: tuple[int, ...] = ()

    @property
    def reached(self) -> bool:
        """It makes no sense to start another one."""
        return len(self.ends_ns) >= self.burst


def ended(limit: StartLimit, now_ns: int) -> StartLimit:
    """Another worker has ended by itself, and no task is to blame."""
    recent = tuple([end for end in limit.ends_ns if now_ns - end < limit.interval_ns])
    return replace(limit, ends_ns=(*recent, now_ns))


def worked(limit: StartLimit) -> StartLimit:
    """A worker has answered: whatever was before is forgotten."""
    return replace(limit, ends_ns=()) if limit.ends_ns else limit


def paced(task_ns: int, answers: int, elapsed_ns: int) -> int:
    """The time of one task, after ``answers`` came within ``elapsed_ns``; slower counts at once, quicker little by little."""
    seen = elapsed_ns // max(1, answers)
    return seen if seen > task_ns else (3 * task_ns + seen) // 4


def ahead(task_ns: int, waiting: int, workers: int) -> int:
    """How many tasks of one map a worker may hold: little time's worth, and no more than its share of those waiting.

    ``task_ns`` 0: nothing is known of their time yet.
    """
    if task_ns <= 0:
        return 1
    share = -(-waiting // max(1, 2 * workers))
    return max(1, min(AHEAD_MAX, AHEAD_NS // task_ns, share))
