# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.limits`` claims: systemd's words, every problem at once, and a merge that never loosens."""

from __future__ import annotations

import resource
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import any_limits, comparable_limits, percents, relaxed

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS, Auto, DeviceLimit, Least, Percent, Rlimit
from supervisor.model.limits import Limits, show_limit, tighten
from supervisor.model.units import INFINITY
from supervisor.model.value import field_names

M, G, S = 2**20, 2**30, 10**9

# every spelling that the documentation names, by kind of limit, and what comes of it
UNLIMITED = [("infinity", INFINITY), ("max", INFINITY), (INFINITY, INFINITY)]
DURATION = [("2s", 2 * S), ("1min 30s", 90 * S), ("250ms", S // 4), (2, 2 * S), (0.5, S // 2), (timedelta(minutes=1), 60 * S), *UNLIMITED]
SIZE = [("256M", 256 * M), ("1.5G", 3 * G // 2), ("1G512M", 3 * G // 2), (" 4K ", 4096), ("4096", 4096), (4096, 4096), (0, 0), *UNLIMITED]
SHARE = [("50%", Percent(ppm=500_000)), ("12.5%", Percent(ppm=125_000)), (Percent(ppm=7), Percent(ppm=7))]
COUNT = [("64", 64), (64, 64), *UNLIMITED]
QUOTA = [("50%", Percent(ppm=500_000)), ("200%", Percent(ppm=2_000_000)), ("0.01%", Percent(ppm=100)), *UNLIMITED]
PERIOD = [("10ms", S // 100), ("1ms", S // 1000), ("1s", S), (1, S)]
WEIGHT = [(1, 1), ("100", 100), (10_000, 10_000)]
CPUS = [("0-3,8", (0, 1, 2, 3, 8)), ("1 0", (0, 1)), (5, (5,)), ([2, 1], (1, 2)), ({0}, (0,)), (("0-1", 4), (0, 1, 4))]


def rlimit(amounts: list[tuple[Any, Any]], soft: str, hard: str, low: Any, high: Any) -> list[tuple[Any, Any]]:
    """One value for both, ``soft:hard``, a pair, or the value itself."""
    both = Rlimit(soft=low, hard=high)
    single = [(text, Rlimit(soft=amount, hard=amount)) for text, amount in amounts]
    return [
        *single,
        (f"{soft}:{hard}", both),
        ((soft, hard), both),
        ([soft, hard], both),
        (both, both),
        (f"{soft}:infinity", Rlimit(soft=low, hard=INFINITY)),
    ]


def device(amount: str, number: int) -> list[tuple[Any, Any]]:
    one = DeviceLimit(path="/dev/sda", amount=number)
    two = DeviceLimit(path="/dev/sdb", amount=INFINITY)
    return [
        (f"/dev/sda {amount}", (one,)),
        ({"/dev/sda": amount}, (one,)),
        ({"/dev/sda": amount, "/dev/sdb": "infinity"}, (one, two)),
        ([f"/dev/sda {amount}", "/dev/sdb max"], (one, two)),
        (["/dev/sdb max", f"/dev/sda  {amount}"], (one, two)),
        (one, (one,)),
        ((two, one), (one, two)),
    ]


RLIMIT_SIZE = rlimit(SIZE, "8M", "16M", 8 * M, 16 * M)
RLIMIT_COUNT = rlimit(COUNT, "64", "128", 64, 128)
SPELLINGS: dict[str, list[tuple[Any, Any]]] = {
    "cpu_time_max": DURATION,
    "wall_time_max": DURATION,
    "idle_time_max": DURATION,
    "memory_min": SIZE + SHARE,
    "memory_low": SIZE + SHARE,
    "memory_high": SIZE + SHARE,
    "memory_max": SIZE + SHARE,
    "memory_swap_max": SIZE + SHARE,
    "tasks_max": COUNT + SHARE,
    "cpu_quota": QUOTA,
    "cpu_quota_period": PERIOD,
    "cpu_weight": WEIGHT,
    "allowed_cpus": CPUS,
    "allowed_memory_nodes": CPUS,
    "io_weight": WEIGHT,
    "io_read_bandwidth_max": device("10M", 10 * M),
    "io_write_bandwidth_max": device("10M", 10 * M),
    "io_read_iops_max": device("1000", 1000),
    "io_write_iops_max": device("1000", 1000),
    "output_max": SIZE,
    "disk_max": SIZE,
    # whole seconds, a fraction rounded up
    "limit_cpu": rlimit([("5", 5), (5, 5), ("1min", 60), ("1500ms", 2), (0.1, 1), ("infinity", INFINITY)], "1s", "1min", 1, 60),
    "limit_fsize": RLIMIT_SIZE,
    "limit_data": RLIMIT_SIZE,
    "limit_stack": RLIMIT_SIZE,
    "limit_core": RLIMIT_SIZE,
    "limit_rss": RLIMIT_SIZE,
    "limit_nproc": RLIMIT_COUNT,
    "limit_nofile": RLIMIT_COUNT,
    "limit_memlock": RLIMIT_SIZE,
    "limit_as": RLIMIT_SIZE,
    "limit_locks": RLIMIT_COUNT,
    "limit_sigpending": RLIMIT_COUNT,
    "limit_msgqueue": RLIMIT_SIZE,
    # a nice level with its sign, or the kernel's own number
    "limit_nice": rlimit(
        [("+5", 15), ("-10", 30), (-10, 30), ("+19", 1), ("-20", 40), (0, 0), ("40", 40), ("infinity", INFINITY)], "+5", "-5", 15, 25
    ),
    "limit_rtprio": RLIMIT_COUNT,
    # microseconds unless a unit says otherwise
    "limit_rttime": rlimit(
        [("500", 500), (500, 500), ("5ms", 5000), ("1s", 10**6), ("1ns", 1), ("infinity", INFINITY)], "1ms", "1s", 1000, 10**6
    ),
}

BAD_ANYWHERE: list[Any] = ["", "fast", True, b"1", object(), [[]], float("nan")]
BAD_DURATION: list[Any] = [*BAD_ANYWHERE, 0, -1, "0", "5 parsecs", "-1s", [], "50%"]
BAD_SIZE: list[Any] = [*BAD_ANYWHERE, -1, "1.5X", "-5M", 1.5, [], {}]
BAD_COUNT: list[Any] = [*BAD_ANYWHERE, -1, "1.5", 1.5, "1K", []]
BAD_WEIGHT: list[Any] = [*BAD_ANYWHERE, 0, 10_001, "infinity", 1.5, "50%"]
BAD_CPUS: list[Any] = [*BAD_ANYWHERE, -1, "3-1", "1.5", [], (), "infinity", 10**6]
BAD_DEVICES: list[Any] = [
    *BAD_ANYWHERE,
    5,
    "/dev/sda",
    "sda 10M",
    "/dev/sda ",
    "/dev/sda 0",
    "/dev/sda fast",
    ["/dev/sda 1", 5],
    {"sda": 1},
    [],
    {},
]
BAD_RLIMIT: list[Any] = [*BAD_ANYWHERE, "2:1", "1:2:3", ":", "1:", (1, 2, 3), (), [], {}, ("infinity", 1), (None, 1)]
BAD: dict[str, list[Any]] = {
    **dict.fromkeys(("cpu_time_max", "wall_time_max", "idle_time_max"), BAD_DURATION),
    **dict.fromkeys(("memory_min", "memory_low", "memory_high", "memory_max", "memory_swap_max"), BAD_SIZE),
    "tasks_max": [*BAD_COUNT, 0],
    "cpu_quota": [*BAD_ANYWHERE, 50, "50", 0.5, "0%", "0.009%", "-5%", []],
    "cpu_quota_period": [*BAD_DURATION, "999us", "1001ms", "infinity"],
    **dict.fromkeys(("cpu_weight", "io_weight"), BAD_WEIGHT),
    **dict.fromkeys(("allowed_cpus", "allowed_memory_nodes"), BAD_CPUS),
    **{name: BAD_DEVICES for name in LIMITS if LIMITS[name].unit == "devices"},
    **{name: [*BAD_SIZE, "50%", Percent(ppm=1)] for name in ("output_max", "disk_max")},
    **{name: [*BAD_RLIMIT, -1, "50%"] for name in LIMITS if LIMITS[name].rlimit is not None},
    "limit_cpu": [*BAD_RLIMIT, -1, 0, "0"],
    "limit_nice": [*BAD_RLIMIT, "+20", "-21", 41, "-5:+5", "+-5"],
}


def flat(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(name, item, id=f"{name}-{n}") for name, items in table.items() for n, item in enumerate(items)]


def test_every_row_of_the_table_has_its_cases_here() -> None:
    assert set(SPELLINGS) == set(BAD) == set(LIMITS)


def test_the_table_and_the_class_name_the_same_limits_in_the_same_order() -> None:
    assert tuple(LIMITS) == field_names(Limits)


def test_every_row_explains_itself_and_no_directive_comes_twice() -> None:
    assert all(kind.help and kind.unit and kind.name == name for name, kind in LIMITS.items())
    assert len({kind.directive for kind in LIMITS.values()}) == len(LIMITS)


def test_directives_are_the_names_in_camel_case_but_for_systemds_own_word() -> None:
    odd = {name for name, kind in LIMITS.items() if kind.directive.lower() not in (name.replace("_", ""), name.replace("_", "") + "sec")}
    assert odd == {"wall_time_max"}
    assert LIMITS["wall_time_max"].directive == "RuntimeMaxSec"


def test_rlimit_numbers_are_the_kernels() -> None:
    ours = {kind.directive.removeprefix("Limit"): kind.rlimit for kind in LIMITS.values() if kind.rlimit is not None}
    assert sorted(ours.values()) == list(range(16))
    for name, number in ours.items():
        assert getattr(resource, f"RLIMIT_{name}", number) == number, name


@pytest.mark.parametrize(("name", "case"), flat(SPELLINGS))
def test_documented_spelling_is_read(name: str, case: tuple[Any, Any]) -> None:
    spelled, amount = case
    assert Limits(**{name: spelled}).given() == {name: amount}


@pytest.mark.parametrize(("name", "bad"), flat(BAD))
def test_bad_spelling_is_a_config_error_that_names_the_key(name: str, bad: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{name: bad})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: ")
    assert "\n" not in problem
    assert len(problem) > len(f"{name}: ")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=4) | percents,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


@relaxed
@given(st.sampled_from(list(LIMITS)), junk)
def test_any_value_at_all_is_read_or_a_config_error(name: str, given: Any) -> None:
    try:
        Limits(**{name: given})
    except ConfigError as refused:
        assert [problem.partition(":")[0] for problem in refused.problems] == [name]


def test_every_problem_is_reported_at_once_in_the_order_of_the_table() -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{name: items[0] for name, items in BAD.items()})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == list(LIMITS)


def test_a_period_out_of_bounds_is_reported_along_with_other_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(cpu_quota_period="2s", memory_max="much")
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {"memory_max", "cpu_quota_period"}


def test_nothing_given_is_nothing_limited() -> None:
    assert Limits().given() == {}


@relaxed
@given(any_limits)
def test_what_show_limit_writes_reads_back_to_the_same_value(limits: Limits) -> None:
    shown = {name: show_limit(name, amount) for name, amount in limits.given().items()}
    assert Limits(**shown) == limits


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("memory_max", 268435456, "256M"),
        ("memory_max", "max", "infinity"),
        ("memory_max", "12.5%", "12.5%"),
        ("wall_time_max", 90, "1min 30s"),
        ("cpu_quota", "150%", "150%"),
        ("cpu_quota", "123.4567%", "123.4567%"),
        ("allowed_cpus", [0, 1, 2, 8], "0-2,8"),
        ("limit_nofile", "64:infinity", "64:infinity"),
        ("limit_nofile", 64, "64"),
        ("io_read_iops_max", {"/dev/sdb": 5, "/dev/sda": "max"}, "/dev/sda infinity, /dev/sdb 5"),
    ],
)
def test_limits_are_shown_as_a_person_would_write_them(name: str, given: Any, shown: str) -> None:
    assert show_limit(name, getattr(Limits(**{name: given}), name)) == shown


# merging


def at_most(a: Any, b: Any) -> bool:
    """``a`` allows no more than ``b``; two normalised values of one limit."""
    if isinstance(a, Rlimit):
        return bool(a.soft <= b.soft and a.hard <= b.hard)
    if isinstance(a, Percent):
        return bool(b == INFINITY or a.ppm <= b.ppm)
    if isinstance(a, tuple) and isinstance(b[0], DeviceLimit):
        amounts = {limit.path: limit.amount for limit in a}
        return all(amounts[limit.path] <= limit.amount for limit in b)
    return set(a) <= set(b) if isinstance(a, tuple) else bool(a <= b)


def merged(*parts: Limits) -> Limits | None:
    """Both at once, or None where they exclude each other."""
    try:
        first, *rest = parts
        for more in rest:
            first = tighten(first, more)
    except ConfigError:
        return None
    return first


@relaxed
@given(comparable_limits, comparable_limits)
def test_tighten_never_loosens_either(a: Limits, b: Limits) -> None:
    both = tighten(a, b)
    for name, amount in [*a.given().items(), *b.given().items()]:
        assert at_most(getattr(both, name), amount), name


@relaxed
@given(comparable_limits, comparable_limits)
def test_tighten_invents_nothing_but_the_ban_on_swap_that_a_memory_cap_implies(a: Limits, b: Limits) -> None:
    for name, amount in tighten(a, b).given().items():
        assert name in a.given() or name in b.given()
        if LIMITS[name].unit not in ("cpus", "devices") and LIMITS[name].rlimit is None and (name, amount) != ("memory_swap_max", 0):
            assert amount in (getattr(a, name), getattr(b, name))


@relaxed
@given(any_limits, any_limits)
def test_tighten_is_commutative(a: Limits, b: Limits) -> None:
    assert merged(a, b) == merged(b, a)


@relaxed
@given(any_limits, any_limits, any_limits)
def test_tighten_is_associative(a: Limits, b: Limits, c: Limits) -> None:
    """Wherever neither order ends with processor lists that exclude each other."""
    pair = merged(b, c)
    left, right = merged(a, b, c), None if pair is None else merged(a, pair)
    assert left == right or left is None or right is None


@relaxed
@given(any_limits)
def test_tighten_is_idempotent_and_nothing_is_its_neutral_element(a: Limits) -> None:
    assert tighten(a, a) == a
    assert tighten(a, Limits()) == a


def test_tighten_keeps_the_ban_on_swap_that_a_memory_cap_implies() -> None:
    """memory_max alone forbids swap; somebody else's allowance of swap does not undo that."""
    assert tighten(Limits(memory_max="256M"), Limits(memory_swap_max="1G")).memory_swap_max == 0


def test_tighten_keeps_what_both_allow_of_two_processor_lists() -> None:
    assert tighten(Limits(allowed_cpus="0-3"), Limits(allowed_cpus="2-5")).allowed_cpus == (2, 3)


def test_tighten_refuses_processor_lists_that_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="allowed_cpus: 0-1 and 2-3 have nothing in common"):
        tighten(Limits(allowed_cpus="0-1"), Limits(allowed_cpus="2-3"))


def test_tighten_keeps_a_share_and_an_amount_until_the_host_is_known() -> None:
    both = tighten(Limits(memory_max="50%"), Limits(memory_max="1G"))
    assert both.memory_max == Least(of=(1 << 30, Percent(ppm=500_000)))
    assert show_limit("memory_max", both.memory_max) == "the least of 1G and 50%"
    assert tighten(both, Limits(memory_max="40%")).memory_max == Least(of=(1 << 30, Percent(ppm=400_000)))
    assert tighten(both, Limits(memory_max="auto")).memory_max == Least(of=(1 << 30, Percent(ppm=500_000), Auto()))
    assert tighten(both, Limits(memory_max=0)).memory_max == 0
    assert tighten(Limits(memory_max="50%"), Limits(memory_max="infinity")).memory_max == Percent(ppm=500_000)
