# SPDX-License-Identifier: Apache-2.0
"""What workers say, from their bytes: whole however it is cut into reads, and no worker can make the pool work without end."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import SLOW

from supervisor import BrokenError
from supervisor.runtime.pool_line import Frames, Lines
from supervisor.worker.wire import RESULT, header

lines = st.binary(max_size=50).map(lambda raw: raw.replace(b"\n", b""))


@given(lines, st.lists(st.integers(0, 51)))
def test_a_line_is_an_answer_however_it_is_cut(line: bytes, cuts: list[int]) -> None:
    speech, said = Lines(), line + b"\n"
    speech.task(7, b"")
    at = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    assert [answer for begin, end in pairwise(at) for answer in speech.feed(said[begin:end])] == [(RESULT, 7, line)]


@pytest.mark.parametrize("said", [b"two\nlines\n", b"a line and\nhalf of one"])
def test_more_than_the_line_that_was_asked_for_is_refused(said: bytes) -> None:
    speech = Lines()
    speech.task(1, b"")
    with pytest.raises(BrokenError, match="nobody asked for"):
        speech.feed(said)


@pytest.mark.parametrize("said", [b"a line\n", b"half of one"])
def test_what_is_said_between_two_tasks_is_refused_and_no_part_of_the_next_answer(said: bytes) -> None:
    speech = Lines()
    speech.task(1, b"")
    speech.feed(b"asked for\n")
    with pytest.raises(BrokenError, match="nobody asked for"):
        speech.feed(said)


@pytest.mark.parametrize("large", [True, False], ids=["a line", "a frame"])
def test_a_long_answer_costs_time_in_proportion(large: bool) -> None:
    """64 MiB in small reads; looking at all of it again with each would be 32 GiB."""
    chunk, count = bytes(65536), 1024
    speech = Lines() if large else Frames()
    speech.task(1, b"")
    begun = time.process_time()
    if not large:
        assert speech.feed(header(RESULT, 1, count * len(chunk))) == []
    for _ in range(count - 1):
        assert speech.feed(chunk) == []
    answers = speech.feed(chunk + b"\n" if large else chunk)
    assert [(kind, number, len(body)) for kind, number, body in answers] == [(RESULT, 1, count * len(chunk))]
    assert time.process_time() - begun < 2 * SLOW
