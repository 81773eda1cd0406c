# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.control.watch`` claims, in a simulated clock: a bounded overdraft, few looks, pauses that cost nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.control.watch import FINEST_NS, IDLE_LOOKS, IDLE_SHARE, Watch, look, next_look, paused, relimited, resumed, watch_for
from supervisor.model.limits import Limits
from supervisor.model.units import INFINITY
from supervisor.model.value import replace

S, MS = 10**9, 10**6
relaxed = settings(deadline=None)  # a busy machine is not a failure
START = 5 * S


class Simulation:
    """A job on a clock of its own: some of its threads are busy while it is not paused."""

    def __init__(self, watch: Watch, busy: int = 0) -> None:
        self.watch = watch
        self.busy = busy
        self.now = watch.started_ns
        self.cpu = 0
        self.output = 0
        self.paused_total = 0
        self.looks = 0
        self.found: str | None = None

    def run_until(self, end: int, late: int = 0) -> None:
        """Let time pass and look whenever a look is due; ``late`` is how long the loop takes to get to it."""
        while self.found is None:
            due = next_look(self.watch, self.now)
            if due is None or due + late > end:
                break
            assert due >= self.now
            self._pass(due + late)
            self.watch, self.found = look(self.watch, self.now, self.cpu, self.output)
            self.looks += 1
            assert self.found or (following := next_look(self.watch, self.now)) is None or following > self.now
        if self.found is None:
            self._pass(end)

    def _pass(self, until: int) -> None:
        self.cpu += (until - self.now) * self.busy
        self.now = max(self.now, until)

    def pause(self, for_ns: int) -> None:
        self.watch = paused(self.watch, self.now)
        assert next_look(self.watch, self.now) is None
        self.now += for_ns
        self.paused_total += for_ns
        self.watch = resumed(self.watch, self.now)


def simulate(processors: int = 1, busy: int = 0, **limits: Any) -> Simulation:
    watch = watch_for(Limits(**limits), processors, START)
    assert watch is not None
    return Simulation(watch, busy)


def later(ns: float) -> int:
    return START + int(ns)


processor_counts = st.integers(1, 256)
cpu_limits = st.integers(1, 3600 * 10**6).map(lambda us: f"{us}us")


# processor time


@relaxed
@given(cpu_limits, processor_counts, st.data())
def test_busy_threads_never_overdraw_by_more_than_the_finest_look_on_every_processor(
    limit: str, processors: int, data: st.DataObject
) -> None:
    busy = data.draw(st.integers(1, processors))
    run = simulate(processors, busy, cpu_time_max=limit)
    run.run_until(later(10**19))
    assert run.found == "cpu_time_max"
    assert 0 <= run.cpu - run.watch.cpu_max_ns <= FINEST_NS * processors


@relaxed
@given(cpu_limits, processor_counts, st.data())
def test_the_number_of_looks_is_logarithmic_in_the_limit(limit: str, processors: int, data: st.DataObject) -> None:
    busy = data.draw(st.integers(1, processors))
    run = simulate(processors, busy, cpu_time_max=limit)
    run.run_until(later(10**19))
    idle_share = processors / busy  # how many looks it takes to spend what is left for a tree as busy as can be
    fine_limit = run.watch.cpu_max_ns / (processors * FINEST_NS)
    assert run.looks <= idle_share * (math.log(max(fine_limit, 1)) + 1) + 2


def test_one_look_is_enough_when_every_processor_is_busy() -> None:
    run = simulate(4, 4, cpu_time_max="60s")
    run.run_until(later(60 * S))
    assert (run.found, run.looks, run.now) == ("cpu_time_max", 1, later(15 * S))


@relaxed
@given(cpu_limits, processor_counts, st.lists(st.tuples(st.integers(0, 256), st.integers(0, 10 * S)), max_size=20))
def test_a_tree_that_is_busy_now_and_then_never_overdraws_either(limit: str, processors: int, phases: list[tuple[int, int]]) -> None:
    run = simulate(processors, cpu_time_max=limit)
    for busy, length in phases:
        run.busy = min(busy, processors)
        run.run_until(run.now + length)
    assert run.cpu - run.watch.cpu_max_ns <= FINEST_NS * processors


@relaxed
@given(cpu_limits, processor_counts, st.integers(0, 50 * MS))
def test_a_late_loop_overdraws_by_no_more_than_its_lateness(limit: str, processors: int, late: int) -> None:
    run = simulate(processors, processors, cpu_time_max=limit)
    run.run_until(later(10**19), late)
    assert run.cpu - run.watch.cpu_max_ns <= (FINEST_NS + late) * processors


def test_processor_time_that_cannot_be_read_is_taken_as_last_seen() -> None:
    run = simulate(1, 1, cpu_time_max="10s")
    watch, found = look(run.watch, later(S), None, 0)
    assert (watch.cpu_ns, found) == (0, None)
    watch, found = look(replace(watch, cpu_ns=3 * S), later(2 * S), 2 * S, 0)
    assert watch.cpu_ns == 3 * S, "a clock that ran backwards is not believed"


def test_a_sleeping_job_is_looked_at_once_for_each_of_its_limits_length() -> None:
    run = simulate(1, 0, cpu_time_max="10s")
    run.run_until(later(100 * S))
    assert (run.found, run.looks) == (None, 10)


# wall time


@relaxed
@given(st.integers(1, 10**15), st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**13)), max_size=8))
def test_wall_time_is_found_exactly_and_pauses_do_not_count(limit: int, phases: list[tuple[int, int]]) -> None:
    run = Simulation(Watch(wall_max_ns=limit, started_ns=START, active_ns=START, looked_ns=START))
    for length, pause in phases:
        run.run_until(run.now + length)
        if run.found is None:
            run.pause(pause)
    run.run_until(later(10**18))
    assert run.found == "wall_time_max"
    assert run.now == START + limit + run.paused_total


def test_wall_time_takes_one_look() -> None:
    run = simulate(wall_time_max="1h")
    run.run_until(later(3600 * S))
    assert (run.found, run.looks) == ("wall_time_max", 1)


# idle time


idle_limits = st.integers(1, 3600 * 10**3)


@relaxed
@given(idle_limits, st.integers(0, 20 * IDLE_SHARE), processor_counts)
def test_a_job_that_falls_idle_is_found_within_a_quarter_more_than_its_limit(idle_ms: int, share: int, processors: int) -> None:
    """Not before its limit either, but for a last burst too short to count as work."""
    idle = idle_ms * MS
    run = simulate(processors, 1, idle_time_max=f"{idle_ms}ms")
    run.run_until(later(idle * share // IDLE_SHARE))
    assert run.found is None
    last, run.busy = run.now, 0
    run.run_until(later(10**18))
    assert str(run.found) == "idle_time_max"
    between_looks = max(idle // IDLE_LOOKS, FINEST_NS)
    assert last + idle - between_looks // IDLE_SHARE - 1 <= run.now <= last + idle + between_looks


@relaxed
@given(idle_limits, st.lists(st.floats(0, 0.999), max_size=30))
def test_a_job_that_falls_silent_is_found_exactly_its_limit_after_its_last_output(idle_ms: int, gaps: list[float]) -> None:
    idle = idle_ms * MS
    run = simulate(idle_time_max=f"{idle_ms}ms")
    run.output = run.now
    for gap in gaps:
        run.run_until(run.now + int(idle * gap))
        assert run.found is None
        run.output = run.now
    last = run.now
    run.run_until(later(10**18))
    assert (run.found, run.now) == ("idle_time_max", last + idle)


def test_a_job_that_only_ticks_is_idle() -> None:
    """A hundredth of a processor is what timers cost; more is work."""
    for used, found in ((S // IDLE_SHARE, "idle_time_max"), (S // IDLE_SHARE + 1, None)):
        watch = Watch(idle_max_ns=S, started_ns=0, looked_ns=0)
        assert look(watch, S, used, 0)[1] == found


def test_output_is_a_sign_of_life_from_when_it_came() -> None:
    watch = Watch(idle_max_ns=S, started_ns=0)
    watch, found = look(watch, S, 0, S // 2)
    assert (watch.active_ns, found) == (S // 2, None)
    assert look(watch, 3 * S // 2, 0, S // 2)[1] == "idle_time_max"


def test_an_idle_job_is_looked_at_a_few_times_for_each_of_its_limits_length() -> None:
    run = simulate(1, 1, idle_time_max="60s")
    run.run_until(later(6000 * S))
    assert (run.found, run.looks) == (None, 100 * IDLE_LOOKS)


# pausing


@relaxed
@given(
    st.integers(1, 20),
    processor_counts,
    st.lists(st.tuples(st.integers(0, 256), st.integers(0, 10 * S), st.integers(0, 100 * S)), max_size=20),
)
def test_pausing_neither_costs_nor_earns_processor_time(limit: int, processors: int, phases: list[tuple[int, int, int]]) -> None:
    """However often it is paused, and whenever, a job spends no more than its limit."""
    run = simulate(processors, cpu_time_max=limit)
    for busy, length, pause in phases:
        run.busy = min(busy, processors)
        run.run_until(run.now + length)
        if run.found is None:
            run.pause(pause)
    assert run.cpu - run.watch.cpu_max_ns <= FINEST_NS * processors


def test_a_pause_before_the_first_look_does_not_put_the_look_off() -> None:
    run = simulate(1, 1, cpu_time_max="10s")
    run.run_until(later(9 * S))
    run.pause(S)
    run.run_until(later(100 * S))
    assert (run.found, run.cpu) == ("cpu_time_max", 10 * S)


def test_a_pause_stops_every_clock() -> None:
    watch = watch_for(Limits(cpu_time_max=1, wall_time_max=1, idle_time_max=1), 1, 0)
    assert watch is not None
    watch = paused(watch, S // 2)
    assert next_look(watch, S // 2) is None
    assert look(watch, 99 * S, 0, 0) == (watch, None)
    watch = resumed(watch, 99 * S)
    assert watch.paused_ns == 99 * S - S // 2
    assert look(watch, 99 * S + S // 2 - 1, 0, 0)[1] is None
    assert look(watch, 99 * S + S // 2, 0, 0)[1] == "wall_time_max"


def test_pausing_twice_is_pausing_once_and_resuming_what_runs_is_nothing() -> None:
    watch = Watch(wall_max_ns=S)
    assert paused(paused(watch, 5), 9) == paused(watch, 5)
    assert resumed(watch, 9) == watch


def test_a_pause_counts_as_a_sign_of_life() -> None:
    run = simulate(idle_time_max="1s")
    run.run_until(later(S // 2))
    run.pause(60 * S)
    resumed_at = run.now
    run.run_until(later(999 * S))
    assert run.now == resumed_at + S


# looking


@relaxed
@given(
    st.builds(
        Watch,
        cpu_max_ns=st.integers(1, 10**12) | st.just(INFINITY),
        wall_max_ns=st.integers(1, 10**12) | st.just(INFINITY),
        idle_max_ns=st.integers(1, 10**12) | st.just(INFINITY),
        processors=processor_counts,
        started_ns=st.integers(0, 10**12),
        paused_ns=st.integers(0, 10**12),
        active_ns=st.integers(0, 10**12),
        cpu_ns=st.integers(0, 10**12),
        looked_ns=st.integers(0, 10**12),
    ),
    st.integers(0, 10**13),
    st.none() | st.integers(0, 10**13),
    st.integers(0, 10**13),
)
def test_after_a_look_the_next_is_strictly_later_unless_a_cause_was_found(watch: Watch, now: int, cpu: int | None, output: int) -> None:
    """Otherwise a driver would spin."""
    assert (due := next_look(watch, now)) is None or due >= now
    new, found = look(watch, now, cpu, min(output, now))
    following = next_look(new, now)
    if found is None:
        assert following is None or following > now
    assert following is not None or (watch.cpu_max_ns, watch.wall_max_ns, watch.idle_max_ns) == (INFINITY, INFINITY, INFINITY)


def test_a_job_without_limits_of_time_is_not_watched() -> None:
    assert watch_for(Limits(memory_max="64M"), 4, START) is None


def test_limits_of_infinity_need_no_look() -> None:
    watch = watch_for(Limits(cpu_time_max="infinity", wall_time_max="infinity", idle_time_max="infinity"), 4, START)
    assert watch is None or next_look(watch, START) is None


@pytest.mark.parametrize(("limits", "needs"), [({"cpu_time_max": 1}, True), ({"idle_time_max": 1}, True), ({"wall_time_max": 1}, False)])
def test_processor_time_is_read_only_where_it_is_needed(limits: dict[str, int], needs: bool) -> None:
    watch = watch_for(Limits(**limits), 1, START)
    assert watch is not None
    assert watch.needs_cpu == needs


@relaxed
@given(processor_counts, st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10 * S))
def test_a_limit_that_changes_is_kept_from_then_on(processors: int, before_ms: int, after_ms: int, at: int) -> None:
    run = simulate(processors, processors, cpu_time_max=f"{before_ms}ms")
    run.run_until(later(at))
    if run.found is not None:
        return
    run.watch = relimited(run.watch, Limits(cpu_time_max=f"{after_ms}ms"))
    changed = run.cpu
    run.run_until(later(10**19))
    assert str(run.found) == "cpu_time_max"
    assert run.cpu - max(changed, after_ms * MS) <= FINEST_NS * processors


def test_new_limits_replace_the_old_ones() -> None:
    watch = relimited(Watch(cpu_max_ns=1, wall_max_ns=2), Limits(idle_time_max=1))
    assert (watch.cpu_max_ns, watch.wall_max_ns, watch.idle_max_ns) == (INFINITY, INFINITY, S)
