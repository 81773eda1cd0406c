# SPDX-License-Identifier: Apache-2.0
"""Capture and Tee: which ones make sense, and what a specification takes."""

from __future__ import annotations

import copy
import pickle
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.capture import KEEP_MOST, MAX_BYTES_LEAST, Capture, Tee
from supervisor.model.spec import COLLECT, DEVNULL, PIPE, RELAY, STDOUT, JobSpec, goes_to, passes_through_us

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"path": ""}, "does not name a file"),
    "a folder": ({"path": "logs/"}, "does not name a file"),
    "a NUL": ({"path": "a\0b"}, "does not name a file"),
    "a number": ({"path": 3}, "does not name a file"),
    "a name without room": ({"path": "x" * 254, "keep": 1}, "leaves no room"),
    "no size": ({"path": "a", "max_bytes": "many"}, "max_bytes"),
    "too small": ({"path": "a", "max_bytes": 4095}, "at least 4096"),
    "negative": ({"path": "a", "max_bytes": -1}, "max_bytes"),
    "files below zero": ({"path": "a", "keep": -1}, "keep"),
    "too many files": ({"path": "a", "keep": KEEP_MOST + 1}, "keep"),
    "a truth for a number": ({"path": "a", "keep": True}, "keep"),
    "lines without a size": ({"path": "a", "lines": True}, "max_bytes is needed"),
    "lines of a file without end": ({"path": "a", "lines": True, "max_bytes": "infinity"}, "max_bytes is needed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_capture_that_makes_no_sense_is_refused_with_the_reason(name: str) -> None:
    options, words = WRONG[name]
    with pytest.raises(ConfigError, match=words):
        Capture(**options)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Capture("", max_bytes="x", keep=-1)
    assert len(str(caught.value).splitlines()) == 3


def test_sizes_and_paths_are_taken_in_every_spelling() -> None:
    assert Capture("log", max_bytes="1M") == Capture(PurePath("log"), max_bytes=1 << 20) == Capture(b"log", max_bytes=1 << 20)
    assert Capture("log", max_bytes="infinity") == Capture("log")
    assert Capture(b"\xff").path.encode("utf-8", "surrogateescape") == b"\xff"


@given(st.text(min_size=1, max_size=20), st.none() | st.integers(MAX_BYTES_LEAST, 1 << 40), st.integers(0, KEEP_MOST), st.booleans())
def test_a_capture_travels_whole(path: str, max_bytes: int | None, keep: int, append: bool) -> None:
    try:
        made = Capture(path, max_bytes=max_bytes, keep=keep, append=append)
    except ConfigError:
        assert path.endswith("/") or "\0" in path or len(path.encode()) > 240
        return
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == made
    assert hash(made) == hash(Capture(path, max_bytes=max_bytes, keep=keep, append=append))


@pytest.mark.parametrize(
    "targets",
    [(PIPE, PIPE), (3, 3), (None, None), (DEVNULL, PIPE), (STDOUT, 1), (RELAY, 1), (True, 1), ("log", PIPE), (Capture("a"), Capture("b"))],
)
def test_a_tee_that_makes_no_sense_is_refused(targets: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^tee: "):
        Tee(*targets)


def test_for_run_the_pipe_of_a_tee_means_collected() -> None:
    file = Capture("a")
    assert Tee(PIPE, file).collecting() == Tee(COLLECT, file) and Tee(None, file).collecting() == Tee(None, file)


def test_a_specification_takes_both_for_output_only() -> None:
    spec = JobSpec(argv=["true"], stdout=Capture("a"), stderr=Tee(None, Capture("b")))
    assert passes_through_us(spec.stdout) and passes_through_us(spec.stderr)
    assert goes_to(Tee(PIPE, 1), PIPE) and not goes_to(spec.stderr, PIPE, COLLECT)
    with pytest.raises(ConfigError, match="stdin"):
        JobSpec(argv=["true"], stdin=Capture("a"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stdout"):
        JobSpec(argv=["true"], stdout="a")  # type: ignore[arg-type]
