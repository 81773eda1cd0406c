# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.stats`` claims: the kernel's numbers exactly, and no text at all that it trips over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model_strategies import relaxed

from supervisor.model.stats import parse_flat_keyed, parse_io_stat, parse_pressure, parse_single

if TYPE_CHECKING:
    from collections.abc import Callable

CPU_STAT = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\ncore_sched.force_idle_usec 0\nthrottled_usec 42\n"
MEMORY_EVENTS = "low 0\nhigh 3\nmax 17\noom 1\noom_kill 2\noom_group_kill 1\n"
IO_STAT = (
    "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
    "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n"
    "7:0 \n"
)
PRESSURE = "some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459\nfull avg10=0.00 avg60=0.13 avg300=0.96 total=57651\n"

HUGE = "9" * 5000  # more digits than int() takes
shapes = st.from_regex(r"([a-z]{1,4}([ =][0-9+\-.]{0,5}){0,3}\n){0,4}", fullmatch=True)
anything = (
    st.text(max_size=60)
    | shapes
    | st.sampled_from([f"usage_usec {HUGE}\n", f"8:0 rbytes={HUGE}\n", f"some total={HUGE}\n", HUGE, "a ٣\n", "²"])
)


def test_cpu_stat() -> None:
    stat = parse_flat_keyed(CPU_STAT)
    assert (stat["usage_usec"], stat["user_usec"], stat["system_usec"], stat["throttled_usec"]) == (1234567, 1000000, 234567, 42)
    assert stat["core_sched.force_idle_usec"] == 0


def test_memory_events() -> None:
    assert parse_flat_keyed(MEMORY_EVENTS) == {"low": 0, "high": 3, "max": 17, "oom": 1, "oom_kill": 2, "oom_group_kill": 1}


def test_io_stat_is_summed_over_devices() -> None:
    assert parse_io_stat(IO_STAT) == (1459200 + 90430464, 314773504 + 299008000)
    assert parse_io_stat("") == (0, 0)


def test_pressure_is_the_total_stall_time_in_nanoseconds() -> None:
    assert parse_pressure(PRESSURE) == {"some": 58761459_000, "full": 57651_000}


@pytest.mark.parametrize(("text", "number"), [("4096\n", 4096), ("0\n", 0), ("max\n", None), ("", None), ("-1\n", None), ("1 2\n", None)])
def test_a_single_number_or_nothing_known(text: str, number: int | None) -> None:
    assert parse_single(text) == number


@pytest.mark.parametrize("parse", [parse_flat_keyed, parse_single, parse_io_stat, parse_pressure])
@relaxed
@given(anything)
@example(HUGE)
def test_any_text_at_all_gives_numbers_that_are_not_negative(parse: Callable[[str], Any], text: str) -> None:
    found = parse(text)
    numbers = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found or 0]
    assert all(isinstance(number, int) and number >= 0 for number in numbers)


@relaxed
@given(st.dictionaries(st.from_regex(r"[a-z_.]{1,12}", fullmatch=True), st.integers(0, 2**64 - 1), max_size=6), shapes)
def test_odd_lines_are_passed_over(numbers: dict[str, int], odd: str) -> None:
    lines = "".join(f"{name} {number}\n" for name, number in numbers.items())
    assert parse_flat_keyed(odd + lines).items() >= numbers.items()
