# SPDX-License-Identifier: Apache-2.0
"""How long a service waits before its next start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_strategies import S, relaxed, service

from supervisor.control.backoff import Backoff, became_up, next_delay, step_delay

#: Delays that service_restart_usec_next() of systemd gives: (RestartSec, RestartSteps, RestartMaxDelaySec) and the delays in seconds.
SYSTEMD = [
    ((0.1, 0, "infinity"), [0.1, 0.1, 0.1]),
    ((0.1, 3, 6.4), [0.1, 0.4, 1.6, 6.4, 6.4]),
    ((1, 2, 100), [1, 10, 100, 100]),
    ((5, 4, 5), [5, 5, 5]),
    ((5, 4, 1), [5, 5, 5]),
    ((0, 4, 60), [0, 0, 0]),
]


@pytest.mark.parametrize(("asked", "delays"), SYSTEMD)
def test_delays_are_systemds(asked: tuple[Any, int, Any], delays: list[float]) -> None:
    spec = service(restart_sec=asked[0], restart_steps=asked[1], restart_max_delay_sec=asked[2])
    assert [step_delay(spec, turn) for turn in range(1, len(delays) + 1)] == pytest.approx(delays)


@given(
    first=st.floats(0, 100),
    last=st.floats(0, 10_000),
    steps=st.integers(0, 50),
    jitter=st.floats(0, 10),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=60),
)
@relaxed
def test_delays_never_shrink_and_never_leave_their_bounds(first: float, last: float, steps: int, jitter: float, draws: list[float]) -> None:
    """A crash loop, whatever the draws: between restart_sec and the larger of both, and the jitter on top."""
    spec = service(restart_sec=first, restart_steps=steps, restart_max_delay_sec=last, restart_jitter_sec=jitter)
    backoff, before = Backoff(), 0.0
    for draw in draws:
        backoff, delay_ns = next_delay(spec, backoff, 0, draw)
        plain = delay_ns - jitter * draw * S
        assert first * S - 2 <= plain <= max(first, last) * S + 2
        assert plain >= before - 2
        before = plain
    assert backoff.restarts == len(draws)


@given(up=st.integers(0, 100 * S), restarts=st.integers(0, 30))
@relaxed
def test_a_run_that_stayed_up_begins_anew_and_no_other(up: int, restarts: int) -> None:
    spec = service(restart_sec=1, restart_steps=10, restart_max_delay_sec=1024, restart_reset_sec=30)
    backoff, delay_ns = next_delay(spec, became_up(Backoff(restarts=restarts), 7), 7 + up, 0.0)
    if up >= 30 * S:
        assert (backoff.restarts, delay_ns) == (1, S)
    else:
        assert backoff.restarts == restarts + 1
        assert delay_ns == pytest.approx(step_delay(spec, restarts + 1) * S)
    assert backoff.up_since_ns is None


def test_a_run_that_was_never_up_never_resets() -> None:
    """However long the start took."""
    spec = service(restart_reset_sec=0)
    assert next_delay(spec, Backoff(restarts=4), 10**18, 0.0)[0].restarts == 5


def test_reset_can_be_forbidden() -> None:
    spec = service(restart_reset_sec="infinity")
    assert next_delay(spec, became_up(Backoff(restarts=4), 0), 10**18, 0.0)[0].restarts == 5
