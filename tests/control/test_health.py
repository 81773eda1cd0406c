# SPDX-License-Identifier: Apache-2.0
"""From answers to health."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from service_strategies import S, relaxed

from supervisor.control.health import Condition, observe
from supervisor.model.check import Health, TcpCheck

answers = st.lists(st.tuples(st.integers(0, 10 * S), st.booleans()), max_size=60)


@given(answers, st.integers(1, 5), st.integers(0, 20))
@relaxed
def test_unhealthy_means_that_so_many_in_a_row_failed_after_the_start_period(
    said: list[tuple[int, bool]], retries: int, period: int
) -> None:
    """Against the definition, told over the whole history."""
    health = Health(check=TcpCheck(port=1), retries=retries, start_period_sec=period)
    condition, now = Condition(up_since_ns=5), 5
    counted: list[bool] = []
    for gap, good in said:
        now += gap
        if good or any(counted) or now - 5 >= period * S:
            counted.append(good)
        condition = observe(health, condition, good, now)
        tail = counted[::-1]
        failing = tail.index(True) if True in tail else len(tail)
        assert condition.failures == failing
        if counted and counted[-1]:
            assert condition.healthy is True
        elif failing >= retries:
            assert condition.healthy is False
        elif True not in counted:
            assert condition.healthy is None


def test_one_success_heals() -> None:
    health = Health(check=TcpCheck(port=1), retries=2)
    condition = Condition(up_since_ns=0)
    for good in (False, False):
        condition = observe(health, condition, good, 1)
    assert condition.healthy is False
    assert observe(health, condition, True, 2).healthy is True
