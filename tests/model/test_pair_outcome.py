# SPDX-License-Identifier: Apache-2.0
"""PairOutcome: whom a pair's end is put down to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.outcome import Exit, Outcome
from supervisor.model.pair import PairOutcome

OK = Outcome(verdict="ok", exit=Exit(code=0))
WRONG = Outcome(verdict="nonzero_exit", exit=Exit(code=1))
PIPE = Outcome(verdict="signaled", exit=Exit(signal=13))
SLOW = Outcome(verdict="wall_limit", exit=Exit(signal=9), killed=True)


@pytest.mark.parametrize(
    ("first", "second", "ended_first", "blamed"),
    [
        (OK, OK, "first", None),
        (OK, WRONG, "first", "second"),
        (WRONG, PIPE, "first", "first"),
        (WRONG, PIPE, "second", "first"),  # it left the pipe before it ended
        (OK, PIPE, "first", None),
        (PIPE, PIPE, "first", None),
        (WRONG, SLOW, "first", "first"),
        (WRONG, SLOW, "second", "second"),
    ],
)
def test_an_end_is_put_down_to_who_caused_it(first: Outcome, second: Outcome, ended_first: str, blamed: str | None) -> None:
    made = PairOutcome(first=first, second=second, ended_first=ended_first)
    other = PairOutcome(first=second, second=first, ended_first={"first": "second", "second": "first"}[ended_first])
    assert made.blamed == blamed
    assert other.blamed == {"first": "second", "second": "first", None: None}[blamed]


@given(*[st.sampled_from([OK, WRONG, PIPE, SLOW])] * 2, st.sampled_from(["first", "second", None]))
def test_nobody_is_blamed_for_a_good_end_or_for_sigpipe(first: Outcome, second: Outcome, ended_first: str | None) -> None:
    made = PairOutcome(first=first, second=second, ended_first=ended_first)
    if made.blamed is not None:
        assert {"first": first, "second": second}[made.blamed] not in (OK, PIPE)
    assert not (made.ok and made.blamed)
    assert json.loads(json.dumps(made.to_dict()))["blamed"] == made.blamed
