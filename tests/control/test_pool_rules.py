# SPDX-License-Identifier: Apache-2.0
"""Decisions of a pool: never more than asked for, never fewer, nobody waits while a worker may be had."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from supervisor.control.pool import (
    AHEAD_MAX,
    AHEAD_NS,
    FAULTS_MAX,
    KILLING_SIGNALS,
    KILLS_MAX,
    SETTLED_NS,
    CrashLoop,
    Sizes,
    Wear,
    ahead,
    answered,
    ended,
    paced,
    to_dismiss,
    to_start,
    worn,
)
from supervisor.model.outcome import Exit, Outcome, Verdict

counts = st.integers(0, 200)
times = st.integers(0, 1 << 50)


@st.composite
def sizes(draw: st.DrawFn) -> Sizes:
    most = draw(st.integers(1, 100))
    return Sizes(least=draw(st.integers(0, most)), most=most, spare=draw(st.integers(0, most)), idle_ns=draw(st.integers(0, 1 << 40)))


@given(sizes(), counts, counts, counts)
def test_a_pool_never_grows_beyond_its_most(of: Sizes, workers: int, free: int, waiting: int) -> None:
    free = min(free, workers)
    started = to_start(of, workers, free, waiting)
    assert started >= 0
    assert workers + started <= max(of.most, workers)


@given(sizes(), counts, counts, counts)
def test_after_growing_the_least_number_is_there_and_tasks_and_spares_have_workers_up_to_the_most(
    of: Sizes, workers: int, free: int, waiting: int
) -> None:
    free = min(free, workers)
    started = to_start(of, workers, free, waiting)
    assert workers + started >= min(of.most, max(of.least, workers))
    assert workers + started >= of.most or free + started >= min(waiting + of.spare, of.most)


@given(sizes(), counts, counts, counts)
def test_growing_twice_starts_nobody_the_second_time(of: Sizes, workers: int, free: int, waiting: int) -> None:
    free = min(free, workers)
    started = to_start(of, workers, free, waiting)
    assert to_start(of, workers + started, free + started, waiting) == 0


@given(sizes(), counts, st.lists(times, max_size=50).map(sorted), times)
def test_only_those_idle_too_long_go_and_the_least_and_the_spares_stay(of: Sizes, busy: int, since: list[int], now: int) -> None:
    workers = busy + len(since)
    gone = to_dismiss(of, workers, since, now)
    assert all(now - start >= of.idle_ns for start in since[:gone])
    assert gone == 0 or (workers - gone >= of.least and len(since) - gone >= of.spare)


@given(sizes(), st.lists(times, max_size=50).map(sorted))
def test_an_idle_pool_shrinks_to_what_it_keeps(of: Sizes, since: list[int]) -> None:
    left = len(since) - to_dismiss(of, len(since), since, (1 << 50) + of.idle_ns)
    assert left == min(len(since), max(of.least, of.spare))


@given(sizes(), st.lists(times, max_size=50).map(sorted))
def test_what_was_dismissed_is_not_started_again(of: Sizes, since: list[int]) -> None:
    left = len(since) - to_dismiss(of, len(since), since, (1 << 50) + of.idle_ns)
    if len(since) >= max(of.least, of.spare):
        assert to_start(of, left, left, 0) == 0


@given(counts, times, times)
def test_without_wear_a_worker_lives_for_ever(tasks: int, age: int, memory: int) -> None:
    assert worn(Wear(), tasks, age, memory) == ""


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 100), counts, st.integers(0, 200), st.integers(0, 200))
def test_a_worker_is_worn_exactly_when_something_is_reached(
    tasks_max: int, age_max: int, memory_max: int, tasks: int, age: int, memory: int
) -> None:
    why = worn(Wear(tasks_max=tasks_max, age_max_ns=age_max, memory_max_bytes=memory_max), tasks, age, memory)
    assert bool(why) == (tasks >= tasks_max or age >= age_max or memory >= memory_max)
    assert why in ("", "tasks", "age", "memory")


KILLS = [Outcome(verdict=Verdict.SIGNALED, exit=Exit(signal=number)) for number in KILLING_SIGNALS]
FAULTS = [
    Outcome(verdict=Verdict.OK, exit=Exit(code=0)),
    Outcome(verdict=Verdict.NONZERO_EXIT, exit=Exit(code=9)),
    Outcome(verdict=Verdict.SIGNALED, exit=Exit(signal=11, core=True)),
    Outcome(verdict=Verdict.SIGNALED, exit=Exit(signal=6)),
    Outcome(verdict=Verdict.MEMORY_LIMIT, exit=Exit(signal=9), killed=True),
    Outcome(verdict=Verdict.HOST_OOM, exit=Exit(signal=9), killed=True),
    Outcome(verdict=Verdict.CANCELLED, exit=Exit(signal=9), killed=True),
    Outcome(verdict=Verdict.SYSCALL_DENIED, exit=Exit(signal=31), killed=True),
]
kills, faults = st.sampled_from(KILLS), st.sampled_from(FAULTS)


def after(ends: Sequence[Outcome], loop: CrashLoop | None = None) -> CrashLoop:
    loop = CrashLoop() if loop is None else loop
    for outcome in ends:
        loop = ended(loop, outcome, ready=False, life_ns=0)
    return loop


@given(st.lists(st.one_of(kills, faults, st.none()), max_size=60))
def test_a_crash_loop_is_five_faults_with_no_answer_between_however_many_are_killed_meanwhile(history: list[Outcome | None]) -> None:
    loop, row = CrashLoop(), 0
    for end in history:
        loop = answered(loop) if end is None else ended(loop, end, ready=False, life_ns=0)
        row = 0 if end is None else row + (end in FAULTS)
        assert loop.reached == (row >= FAULTS_MAX)


@given(st.lists(st.lists(kills, max_size=KILLS_MAX - 1), max_size=6))
def test_kills_never_end_a_pool_that_does_any_work(rows: list[list[Outcome]]) -> None:
    loop = CrashLoop()
    for row in rows:
        loop = after(row, loop)
        assert not loop.reached
        loop = answered(loop)


@given(st.lists(kills, min_size=KILLS_MAX, max_size=KILLS_MAX))
def test_a_pool_in_which_nothing_but_kills_happens_ends_all_the_same(row: list[Outcome]) -> None:
    assert not after(row[1:]).reached
    assert after(row).reached


@given(st.one_of(kills, faults), times, st.booleans())
def test_the_end_of_a_worker_that_was_ready_for_long_counts_for_nothing(end: Outcome, life: int, ready: bool) -> None:
    counted = ended(CrashLoop(), end, ready=ready, life_ns=life) != CrashLoop()
    assert counted == (not ready or life < SETTLED_NS)


@given(st.lists(st.one_of(kills, faults), max_size=150))
def test_an_answer_ends_what_looked_like_a_loop(ends: list[Outcome]) -> None:
    assert answered(after(ends)) == CrashLoop()


@given(times, st.integers(1, 1000), times)
def test_the_pace_follows_what_was_seen_and_a_slow_task_at_once(pace: int, answers: int, elapsed: int) -> None:
    seen = elapsed // answers
    new = paced(pace, answers, elapsed)
    assert min(pace, seen) <= new <= max(pace, seen)
    assert new == seen or seen <= pace


@given(st.integers(1, 1 << 50), counts, st.integers(1, 64))
def test_little_work_is_sent_ahead_and_some_is_left_for_the_others(pace: int, waiting: int, workers: int) -> None:
    window = ahead(pace, waiting, workers)
    assert 1 <= window <= AHEAD_MAX
    assert window == 1 or window * pace <= AHEAD_NS
    assert window == 1 or window * workers <= waiting + 2 * workers


def test_nothing_is_sent_ahead_before_the_first_answer() -> None:
    assert ahead(0, 1000, 2) == 1
