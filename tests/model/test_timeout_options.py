# SPDX-License-Identifier: Apache-2.0
"""timeout's words: intervals, signals, statuses; tests/cli/test_compat_timeout.py asks the real one."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.timeout_options import parse_interval_ns, parse_signal, parse_timeout, signal_name, timeout_status
from supervisor.model.units import INFINITY


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5", 5_000_000_000),
        ("1.5", 1_500_000_000),
        (".5m", 30_000_000_000),
        ("1h", 3600_000_000_000),
        ("2d", 2 * 86400_000_000_000),
        ("1e-10", 1),
        ("1e-400", 0),
        ("0x1d", 29_000_000_000),
        ("0x1ds", 29_000_000_000),
        (" +3", 3_000_000_000),
        ("inf", INFINITY),
        ("infinitym", INFINITY),
        ("1e30", INFINITY),
        ("0x1p9999", INFINITY),
    ],
)
def test_intervals_are_what_strtod_reads_and_a_suffix(text: str, ns: float) -> None:
    assert parse_interval_ns(text) == ns


@given(st.floats(0, 1e9), st.sampled_from(["", "s", "m", "h", "d"]))
def test_an_interval_is_never_cut_short(seconds: float, suffix: str) -> None:
    ns = parse_interval_ns(f"{seconds!r}{suffix}")
    exact = seconds * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[suffix]
    assert ns >= exact * 1e9 * (1 - 1e-12)
    assert (ns == 0) == (seconds == 0)


@pytest.mark.parametrize("text", ["", "x", "nan", "-1", "1 ", "1_0", "1ss", "1e", "0x", "\u0661", "1,5"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid time interval"):
        parse_interval_ns(text)


@pytest.mark.parametrize("number", [n for n in signal.valid_signals() if n not in (32, 33)])
def test_signals_have_the_names_of_this_platform(number: int) -> None:
    assert parse_signal(signal_name(number)) == number
    assert parse_signal("sig" + signal_name(number).lower()) == number
    assert parse_signal(str(int(number))) == number
    if number < 32:
        assert parse_signal(signal.Signals(number).name) == number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("EXIT", 0), ("137", 9), ("143", 15), ("RTMIN+2", 36), ("RTMAX-1", 63)])
def test_other_spellings_of_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "FOO", "SIGSIGTERM", "32", "33", "65", "-9", "9x", "RTMIN+99", "RTMAX+1", "RTMIN-1", "99999999999"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid signal"):
        parse_signal(text)


def test_options_end_at_the_interval() -> None:
    made = parse_timeout(["-k", "1", "--sig=KILL", "-v", "2m", "cmd", "-k", "--", "x"])
    assert (made.argv, made.duration_ns, made.kill_after_ns, made.signal, made.verbose) == (
        ("cmd", "-k", "--", "x"),
        120_000_000_000,
        1_000_000_000,
        9,
        True,
    )


@pytest.mark.parametrize(
    ("code", "number", "timed_out", "preserve", "status"),
    [
        (0, None, False, False, 0),
        (7, None, False, False, 7),
        (7, None, True, False, 124),
        (7, None, True, True, 7),
        (None, 15, True, False, 124),
        (None, 15, True, True, 143),
        (None, 9, True, False, 137),
    ],
)
def test_statuses(code: int | None, number: int | None, timed_out: bool, preserve: bool, status: int) -> None:
    assert timeout_status(code, number, timed_out, preserve) == status


@given(st.lists(st.text(max_size=6), max_size=5))
def test_every_command_line_is_read_or_refused(argv: list[str]) -> None:
    try:
        parse_timeout(argv)
    except ConfigError as error:
        assert len(error.problems) == 1
