# SPDX-License-Identifier: Apache-2.0
"""At most so many starts in an interval."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from service_strategies import S, relaxed, service

from supervisor.control.start_limit import StartLimit, may_start


@given(burst=st.integers(1, 10), gaps=st.lists(st.integers(0, 3 * S), max_size=80))
@relaxed
def test_no_window_sees_more_than_the_burst(burst: int, gaps: list[int]) -> None:
    """Starts as they are asked for, at any times: within each window that a start opens at most ``burst`` are allowed."""
    spec = service(start_limit_interval_sec=10, start_limit_burst=burst)
    limit, now, allowed = StartLimit(), 0, []
    for gap in gaps:
        now += gap
        limit, may = may_start(spec, limit, now)
        if may:
            allowed.append((limit.opened_ns, now))
    windows = {opened for opened, _ in allowed}
    for opened in windows:
        assert opened is not None
        inside = [at for window, at in allowed if window == opened]
        assert len(inside) <= burst and inside[-1] - opened <= 10 * S


def test_systemds_default_lets_five_through_and_refuses_the_sixth_until_the_window_closes() -> None:
    spec, limit = service(), StartLimit()
    decided = []
    for now in range(6):
        limit, may = may_start(spec, limit, now)
        decided.append(may)
    assert decided == [True] * 5 + [False]
    assert not may_start(spec, limit, 10 * S)[1]
    assert may_start(spec, limit, 10 * S + 1)[1]


@given(st.lists(st.integers(0, S), max_size=50))
@relaxed
def test_no_interval_or_no_burst_is_no_limit(gaps: list[int]) -> None:
    for spec in (service(start_limit_interval_sec=0), service(start_limit_burst=0)):
        limit, now = StartLimit(), 0
        for gap in gaps:
            now += gap
            limit, may = may_start(spec, limit, now)
            assert may
