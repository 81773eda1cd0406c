# SPDX-License-Identifier: Apache-2.0
"""Relative limits: what shares, auto and the least of several come to on a host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import ConfigError
from supervisor.model.host import Host
from supervisor.model.limit_kinds import LIMITS, Auto, Percent
from supervisor.model.limits import Limits, show_limit, tighten
from supervisor.model.relative import AUTO_WORDS, resolve_relative

HOST = Host(memory_total_bytes=1000 << 20, processors=4, tasks_total=1000)


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ({"memory_max": "auto"}, {"memory_max": 750 << 20}),
        ({"memory_high": "auto"}, {"memory_high": 675 << 20}),
        ({"memory_high": "auto", "memory_max": "100M"}, {"memory_high": 90 << 20, "memory_max": 100 << 20}),
        ({"memory_high": "auto", "memory_max": "10%"}, {"memory_high": 90 << 20, "memory_max": 100 << 20}),
        ({"memory_high": "auto", "memory_max": "infinity"}, {"memory_high": 675 << 20, "memory_max": float("inf")}),
        ({"tasks_max": "auto"}, {"tasks_max": 150}),
        ({"cpu_quota": "auto"}, {"cpu_quota": Percent(ppm=3_000_000)}),
        (
            {"memory_low": "25%", "tasks_max": "1%", "cpu_quota": "50%"},
            {"memory_low": 250 << 20, "tasks_max": 10, "cpu_quota": Percent(ppm=500_000)},
        ),
    ],
)
def test_what_is_relative_becomes_an_amount_of_the_host(given: dict[str, str], resolved: dict[str, Any]) -> None:
    assert resolve_relative(Limits(**given), HOST).given() == resolved


def test_auto_leaves_a_processor_to_the_host_but_always_one_to_the_job() -> None:
    one = Host(processors=1)
    assert resolve_relative(Limits(cpu_quota="auto"), one).cpu_quota == Percent(ppm=1_000_000)


@pytest.mark.parametrize("name", LIMITS)
def test_auto_is_taken_where_there_is_a_rule_and_refused_elsewhere(name: str) -> None:
    if name in AUTO_WORDS:
        assert getattr(Limits(**{name: "auto"}), name) == Auto()
        assert show_limit(name, Auto()) == "auto"
        assert not isinstance(getattr(resolve_relative(Limits(**{name: "auto"}), HOST), name), Auto)
    else:
        with pytest.raises(ConfigError):
            Limits(**{name: "auto"})


relative = st.one_of(
    st.integers(1, 1 << 40), st.integers(0, 2_000_000).map(lambda ppm: Percent(ppm=ppm)), st.just("auto"), st.just("infinity")
)


@given(relative, relative, relative, st.sampled_from(["memory_max", "tasks_max"]))
def test_the_least_of_several_is_the_least_of_what_each_comes_to(a: Any, b: Any, c: Any, name: str) -> None:
    """So combining before the host is known gives what combining afterwards would."""
    one, two, three = (Limits(**{name: item}) for item in (a, b, c))
    late = getattr(resolve_relative(tighten(tighten(one, two), three), HOST), name)
    assert late == min(getattr(resolve_relative(part, HOST), name) for part in (one, two, three))


quota = st.one_of(st.integers(100, 8_000_000).map(lambda ppm: Percent(ppm=ppm)), st.just("auto"))


@given(quota, quota)
def test_the_least_of_two_quotas(a: Any, b: Any) -> None:
    one, two = Limits(cpu_quota=a), Limits(cpu_quota=b)
    late = resolve_relative(tighten(one, two), HOST).cpu_quota
    assert late.ppm == min(resolve_relative(part, HOST).cpu_quota.ppm for part in (one, two))
