# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.units`` claims: systemd's meaning, exact round trips, and never a surprise."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.model import units
from supervisor.model.units import (
    INFINITY,
    format_bytes,
    format_bytes_human,
    format_duration,
    format_duration_human,
    parse_bytes,
    parse_count,
    parse_duration_ns,
    parse_percent_ppm,
)

if TYPE_CHECKING:
    from collections.abc import Callable

K, M, G, T, P, E = (1024**power for power in range(1, 7))
US, MS, S = 1000, 10**6, 10**9
MIN, H, D = 60 * S, 3600 * S, 86400 * S
MONTH, Y = 2_629_800 * S, 31_557_600 * S
LARGEST = 2**63 - 1

Table = dict[Any, list[Any]]

TEXT_PARSERS: tuple[Callable[[Any], int | float], ...] = (parse_bytes, parse_duration_ns, parse_percent_ppm, parse_count)
FORMATS: tuple[Callable[[Any], str], ...] = (format_bytes, format_duration, format_bytes_human, format_duration_human)


def cases(table: Table) -> list[tuple[Any, Any]]:
    """Pairs for parametrize, from a table that groups the inputs by what comes of them."""
    return [(given, outcome) for outcome, inputs in table.items() for given in inputs]


relaxed = settings(deadline=None)  # a busy machine is not a failure
amounts = st.one_of(
    st.integers(0, LARGEST),
    st.integers(0, 10_000),
    st.builds(lambda n, shift: n << shift, st.integers(0, 2047), st.integers(0, 52)),
    st.builds(lambda n, power: n * 10**power, st.integers(0, 999), st.integers(0, 15)),
)
texts = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="0123456789 .+-\tKMGTPEiBsmhdwyun%\u00b5\u03bc\u0663\u00b2infinitymax", max_size=20),
    st.from_regex(r"[ +]?[0-9]{0,25}(\.[0-9]{0,9})?[ ]?(KiB|[KMGTPE]|B|[a-z]{0,5}|%)", fullmatch=True),
)


def test_costs_no_import() -> None:
    script = "import sys; old = set(sys.modules); exec(compile(open(sys.argv[1]).read(), '', 'exec'), {}); print(*set(sys.modules) - old)"
    command = [sys.executable, "-I", "-S", "-c", script, str(Path(units.__file__))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() in ([], ["__future__"])


# sizes


SIZES: Table = {
    0: ["0", "0B", "0E", 0],
    7: ["7", "007", "+7", " 7 ", "7B", 7],
    1000: ["1000", "1000B", 1000],
    K: ["1K", "1Ki", "1KB", "1KiB", "1 KiB", "1024"],
    512 * M: ["512M", "0.5G"],
    5 * G: ["5G", "5 GB", "5.G", "5.0G"],
    2 * T: ["2T"],
    3 * P: ["3P"],
    7 * E: ["7E"],
    G + 512 * M: ["1.5G", "1G512M", "1G 512M", "1G+512M", "1GiB512MiB"],
    G + 2 * M + 3 * K + 4: ["1G2M3K4", " 1 G 2 M 3 K 4 "],
    3: ["1B2"],
    102: ["0.1K"],  # 102.4
    2047: ["1.9999999999K"],
    LARGEST: ["9223372036854775807", LARGEST],
    INFINITY: ["infinity", "max", " infinity\n"],
}


@pytest.mark.parametrize(("text", "expected"), cases(SIZES))
def test_sizes_mean_what_systemd_says(text: str | int, expected: float) -> None:
    assert parse_bytes(text) == expected


REFUSED_SIZES: Table = {
    "^empty size: write bytes": ["", " \t\n"],
    "^negative size: write 0 or more": ["-1", "-0", "-x", "1G -1M", -1],
    "is not a size: write bytes or a number with K M G T P E": ["abc", "K", ".5G", "+", "++5", "1.5.5", "5+5", "\u0665", "Infinity"],
    "^'(nan|inf|infinity5)' is not a size": ["nan", "inf", "infinity5"],
    "^unknown unit '(s|m|e|x|,|_|iB)' in a size: use .* upper case": ["5s", "512m", "1e3", "0x10", "1,5G", "1_000", "1iB"],
    r"^unknown unit '\\x00'": ["5\0"],
    "is a percentage, not a size": ["80%", "12.5 %"],
    "^units out of order in ": ["512M1G", "1G1G", "1Ki1K", "5 5", "5 5B"],
    r"^size too large \(over 2\*\*63-1 bytes\)": ["8E", "9223372036854775808", "7E 1023P 1024T", 2**63],
    "^'9{56}...' is too long": ["9" * 300],
    "^(bool|float|NoneType|list) is not a size": [True, 1.5, INFINITY, None, []],
}


@pytest.mark.parametrize(("text", "problem"), cases(REFUSED_SIZES))
def test_a_refused_size_says_why(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_bytes(text)


@given(amounts)
@relaxed
def test_sizes_survive_the_round_trip(n: int) -> None:
    assert parse_bytes(format_bytes(n)) == n
    assert parse_bytes(n) == n
    assert len(format_bytes(n)) <= len(str(n)), "the shortest exact spelling"


@given(
    st.integers(0, 7),
    st.integers(0, 7),
    st.sampled_from("KMGTPE"),
    st.sampled_from(["", "B", "i", "iB"]),
    st.text("0123456789", max_size=30),
)
@relaxed
def test_sizes_are_monotone(a: int, b: int, letter: str, tail: str, decimals: str) -> None:
    low, high = sorted((a, b))
    factor = 1024 ** ("KMGTPE".index(letter) + 1)
    assert low * factor == parse_bytes(f"{low}{letter}{tail}") <= parse_bytes(f"{high}{letter}{tail}")
    assert parse_bytes(f"{low}{letter}") <= parse_bytes(f"{low}.{decimals}{letter}") <= (low + 1) * factor
    assert parse_bytes(f"{low}{letter}") <= parse_bytes(f"{low}{letter}{high}") == parse_bytes(f"{low}{letter}") + high


SHORT_SIZES: Table = {
    "0": [0],
    "1000": [1000],
    "1K": [1024, 1024.0],
    "1536": [1536],
    "256M": [2**28],
    "1536M": [G + 512 * M],
    "infinity": [INFINITY],
}


@pytest.mark.parametrize(("n", "expected"), cases(SHORT_SIZES))
def test_sizes_are_printed_short(n: float, expected: str) -> None:
    assert format_bytes(n) == expected


# durations


DURATIONS: Table = {
    0: ["0", "0s", 0, -0.0, 1e-12],
    1: ["1ns", "1.9ns", "0.000000001"],
    10 * US: ["10us", "10\u00b5s", "10\u03bcs", "0.01ms"],
    100 * MS: ["100ms", 0.1],
    S // 2: ["0.5", ".5", "500ms", 0.5],
    1_500_000_000: ["1.5s", "1s500ms", 1.5],
    3 * S: ["1 2", "1s2"],
    5 * S: ["5", "5s", " 5 s ", "+5s", 5],
    5_500_000_000: ["5s.5", "5 .5"],
    6 * S: ["1s+5s"],
    10 * S: ["010s"],
    320 * S: ["5min 20s", "20s 5min", "5m20", timedelta(minutes=5, seconds=20)],
    90 * MIN: ["1h30m", "1.5h"],
    MONTH: ["1M", "1month"],
    36500 * D + US: [timedelta(days=36500, microseconds=1)],
    INFINITY: ["infinity", "max", " infinity "],
}


@pytest.mark.parametrize(("text", "expected"), cases(DURATIONS))
def test_durations_mean_what_systemd_says(text: Any, expected: float) -> None:
    assert parse_duration_ns(text) == expected


SPELLINGS: Table = {
    Y: ["y", "year", "years"],
    MONTH: ["M", "month", "months"],
    7 * D: ["w", "week", "weeks"],
    D: ["d", "day", "days"],
    H: ["h", "hr", "hour", "hours"],
    MIN: ["m", "min", "minute", "minutes"],
    S: ["s", "sec", "second", "seconds", ""],
    MS: ["ms", "msec"],
    US: ["us", "usec", "\u00b5s", "\u03bcs"],
    1: ["ns", "nsec"],
}


@pytest.mark.parametrize(("word", "factor"), cases(SPELLINGS))
def test_every_spelling_of_a_unit_is_known(word: str, factor: int) -> None:
    assert parse_duration_ns(f"3{word}") == parse_duration_ns(f"3 {word}") == 3 * factor


REFUSED_DURATIONS: Table = {
    "^empty duration: write seconds": ["", "\n"],
    "^negative duration: write 0 or more": ["-5s", "-0", "1h -5s", -1, -0.001, timedelta(seconds=-1)],
    "is not a duration: write seconds or a time span": ["month", "s", ".", "1.s", "1. 5s", "+.5s", "+ 5s", "1..5s", "1.5.5s", "5+5"],
    "^'(inf|nan|1h infinity)' is not a duration": ["inf", "nan", "1h infinity"],
    "^unknown unit '(S|mins|e|,|%)' in a duration: use ns us ms s min h d w month y": ["5S", "5mins", "1e3s", "1,5s", "50%"],
    "^duration too large .*292 years": ["293y", "9223372036854775808ns", 2**63 // S + 1, 1e300, timedelta.max],
    "^duration is not a finite number": [INFINITY, -INFINITY, float("nan")],
    "^(bool|NoneType|dict) is not a duration": [True, None, {}],
}


@pytest.mark.parametrize(("text", "problem"), cases(REFUSED_DURATIONS))
def test_a_refused_duration_says_why(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_duration_ns(text)


@given(amounts)
@relaxed
def test_durations_survive_the_round_trip(n: int) -> None:
    assert parse_duration_ns(format_duration(n)) == n
    assert parse_duration_ns(f"{n}ns") == n


@given(st.floats(0, 9e9), st.floats(0, 9e9))
@relaxed
def test_seconds_are_rounded_to_the_nearest_nanosecond_and_monotone(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert parse_duration_ns(low) <= parse_duration_ns(high)
    numerator, denominator = low.as_integer_ratio()
    assert abs(parse_duration_ns(low) * denominator - numerator * S) * 2 <= denominator


@given(st.timedeltas(timedelta(0), timedelta(days=99_000)))
@relaxed
def test_a_timedelta_is_taken_exactly(span: timedelta) -> None:
    assert parse_duration_ns(span) == span // timedelta(microseconds=1) * US


@given(
    st.integers(0, 250),
    st.integers(0, 250),
    st.sampled_from(["y", "w", "d", "h", "min", "s", "ms", "us", "ns"]),
    st.text("0123456789", min_size=1, max_size=30),
)
@relaxed
def test_durations_are_monotone(a: int, b: int, unit: str, decimals: str) -> None:
    low, high = sorted((a, b))
    assert parse_duration_ns(f"{low}{unit}") <= parse_duration_ns(f"{high}{unit}")
    assert parse_duration_ns(f"{low}{unit}") <= parse_duration_ns(f"{low}.{decimals}{unit}") <= parse_duration_ns(f"{low + 1}{unit}")
    assert parse_duration_ns(f"{low}{unit} {high}ms") == parse_duration_ns(f"{low}{unit}") + high * MS


EXACT_DURATIONS: Table = {
    "0": [0],
    "1ns": [1],
    "1.500us": [1500],
    "500ms": [500 * MS],
    "1.500s": [1500 * MS],
    "1.000001s": [S + US],
    "1.000000001s": [S + 1],
    "5min 20s": [320 * S, 320e9],
    "1min 1ns": [MIN + 1],
    "1min 1.500s": [MIN + 1500 * MS],
    "1y 1month 1w 1d 1h": [Y + MONTH + 8 * D + H],
    "infinity": [INFINITY],
}


@pytest.mark.parametrize(("ns", "expected"), cases(EXACT_DURATIONS))
def test_durations_are_printed_like_systemd(ns: float, expected: str) -> None:
    assert format_duration(ns) == expected


# percentages and counts


PERCENTAGES: Table = {
    0: ["0%", "0.0%"],
    1: ["0.0001%"],
    125_000: ["12.5%", "12.500000%"],
    333_333: [" 33.3333% "],
    500_000: ["50%"],
    2_500_000: ["250%"],
}


@pytest.mark.parametrize(("text", "expected"), cases(PERCENTAGES))
def test_percentages(text: str, expected: int) -> None:
    assert parse_percent_ppm(text) == expected


REFUSED_PERCENTAGES: Table = {
    "^empty percentage": [""],
    "^negative percentage": ["-5%"],
    "is not a percentage: write a number and %": ["50", "%", "50 %", "50%%", ".5%", "5.%", "1.5.5%", "+5%", "infinity%", "\u0665%"],
    "^leading zero in '050%'": ["050%"],
    "is too fine: write at most four decimals": ["0.00001%"],
    "^percentage too large": [f"{LARGEST}%"],
    "^(int|float|NoneType) is not a percentage": [50, 0.5, None],
}


@pytest.mark.parametrize(("text", "problem"), cases(REFUSED_PERCENTAGES))
def test_a_refused_percentage_says_why(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_percent_ppm(text)


@given(st.integers(0, 10**12))
@relaxed
def test_percentages_are_exact(ppm: int) -> None:
    assert parse_percent_ppm(f"{ppm // 10_000}.{ppm % 10_000:04d}%") == ppm


@given(st.integers(0, LARGEST))
@relaxed
def test_counts_are_plain_numbers(n: int) -> None:
    assert parse_count(n) == parse_count(str(n)) == parse_count(f" {n}\n") == n
    assert parse_count("infinity") == parse_count("max") == INFINITY


REFUSED_COUNTS: Table = {
    "^empty count": [""],
    "^negative count": ["-1", -1],
    "is not a count: write a whole number": ["64K", "6.4", "+64", "6_4", "6 4", "50%", "0x40", "\u0666"],
    "^leading zero in '010'": ["010"],
    "^count too large": [str(2**63), 2**63],
    "^(bool|float|NoneType) is not a count": [True, 6.0, None],
}


@pytest.mark.parametrize(("text", "problem"), cases(REFUSED_COUNTS))
def test_a_refused_count_says_why(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_count(text)


# tables


TABLE_SIZES: Table = {
    "0 B": [0],
    "512 B": [512, 511.6],
    "1023 B": [1023],
    "1.0 KiB": [1024, 1075],
    "1023.9 KiB": [1_048_524],
    "1.0 MiB": [1_048_525, M],
    "62.1 MiB": [65_117_500],
    "8.0 EiB": [LARGEST],
    "infinity": [INFINITY],
}


@pytest.mark.parametrize(("n", "expected"), cases(TABLE_SIZES))
def test_sizes_in_a_table(n: float, expected: str) -> None:
    assert format_bytes_human(n) == expected


TABLE_DURATIONS: Table = {
    "0 s": [0],
    "999 ns": [999],
    "1.00 us": [1000],
    "1.20 ms": [1.2e6],
    "9.99 ms": [9_994_999],
    "10.0 ms": [9_995_000],
    "12.3 ms": [12_345_678],
    "999 ms": [999_499_999],
    "1.00 s": [999_500_000],
    "1.23 s": [1_234_567_890],
    "59.9 s": [59_949_999_999],
    "1min": [59_950_000_000, 60_499_999_999],
    "5min 20s": [320 * S],
    "59min 59s": [H - S // 2 - 1],
    "1h": [H - S // 2],
    "1h 2min": [3725 * S],
    "23h 59min": [D - MIN // 2 - 1],
    "1d": [D - MIN // 2],
    "1d 1h": [D + H],
    "400d": [400 * D],
    "infinity": [INFINITY],
}


@pytest.mark.parametrize(("ns", "expected"), cases(TABLE_DURATIONS))
def test_durations_in_a_table(ns: float, expected: str) -> None:
    assert format_duration_human(ns) == expected


@given(amounts, amounts)
@relaxed
def test_tables_are_close_and_in_order(a: int, b: int) -> None:
    low, high = sorted((a % (7 * E), b % (7 * E)))  # rounding up must not leave the range
    assert parse_bytes(format_bytes_human(low)) <= parse_bytes(format_bytes_human(high))
    assert abs(parse_bytes(format_bytes_human(high)) - high) <= high / 20
    assert parse_duration_ns(format_duration_human(low)) <= parse_duration_ns(format_duration_human(high))
    assert abs(parse_duration_ns(format_duration_human(high)) - high) <= high / 48


# never a surprise


@given(texts)
@relaxed
def test_any_text_is_a_number_or_a_one_line_complaint(text: str) -> None:
    for parse in TEXT_PARSERS:
        try:
            number = parse(text)
        except ValueError as refusal:
            assert type(refusal) is ValueError
            assert str(refusal).isprintable(), "one line, safe for a terminal"
        else:
            assert number == INFINITY or (type(number) is int and 0 <= number <= LARGEST)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none()))
@relaxed
def test_any_number_is_accepted_or_refused(n: Any) -> None:
    for parse in TEXT_PARSERS:
        try:
            number = parse(n)
        except ValueError as refusal:
            assert str(refusal).isprintable()
        else:
            assert type(number) is int
            assert 0 <= number <= LARGEST
    for shown in FORMATS:
        try:
            text = shown(n)
        except ValueError as refusal:
            assert str(refusal).isprintable()
        else:
            assert text
            assert n >= 0


LONG_TEXTS = ["Q" * 61, "Q" * 5000, "1" + "Q" * 200, "1K1" + "Q" * 200, "Q" * 200 + "1%", "0" + "1" * 200, "1 " * 99, "\a" * 61 + "Q" * 61]


@pytest.mark.parametrize("text", LONG_TEXTS)
def test_a_complaint_repeats_at_most_sixty_characters(text: str) -> None:
    for parse in TEXT_PARSERS:
        try:
            parse(text)
        except ValueError as refusal:
            quoted = re.search(r"(['\"]).*\1", str(refusal))
            assert quoted is None or len(quoted[0]) <= 62
            assert str(refusal).count("Q") <= 60


def test_a_huge_number_is_too_large_however_long() -> None:
    for parse in (parse_bytes, parse_duration_ns, parse_count):
        with pytest.raises(ValueError, match="too large"):
            parse(10**5000)  # too long for str()


def test_a_complaint_about_a_type_is_short() -> None:
    for parse in TEXT_PARSERS:
        with pytest.raises(ValueError, match=r"^Q{60} is not a "):
            parse(type("Q" * 5000, (), {})())


@pytest.mark.parametrize("shown", FORMATS)
@pytest.mark.parametrize("n", [-1, -0.5, 2**63, 1e300, float("nan"), -INFINITY, True, None, "5"])
def test_only_real_amounts_are_printed(shown: Callable[[Any], str], n: Any) -> None:
    with pytest.raises(ValueError, match=r"^(negative|(NoneType|bool|'5') is not a|\w+ (too large|is not a finite number))"):
        shown(n)


@pytest.mark.parametrize("shown", [format_bytes, format_duration])
def test_an_exact_form_refuses_a_fraction(shown: Callable[[Any], str]) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        shown(1.5)


# systemd's own parser as the judge

SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    SYSTEMD_ANALYZE is None,
    reason="systemd-analyze is not installed, so time spans cannot be compared with systemd's own parser (Debian: apt install systemd)",
)
ENVIRONMENT = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "PATH": "/usr/bin:/bin"}
# by factor: how many decimals systemd computes exactly in its microseconds, and how large a number stays in our range
ORACLE_RANGE = {
    Y: (6, 40),
    MONTH: (6, 99),
    7 * D: (6, 99),
    D: (6, 99),
    H: (6, 9999),
    MIN: (6, 9999),
    S: (6, 9999),
    MS: (3, 99999),
    US: (0, 9999999),
}


def systemd_reads(spans: list[str]) -> list[tuple[int, str]]:
    """Microseconds and systemd's own spelling of each span; every one must be valid."""
    found: list[tuple[int, str]] = []
    for start in range(0, len(spans), 250):
        command = [str(SYSTEMD_ANALYZE), "timespan", "--", *spans[start : start + 250]]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
        answers = re.findall(r"^ +(?:us|\u03bcs|\u00b5s): (\d+)\n +Human: (.*)$", done.stdout, re.MULTILINE)
        found += [(int(us), human) for us, human in answers]
        assert done.returncode == 0, f"systemd refuses {spans[len(found)]!r}: {done.stderr}"
    assert len(found) == len(spans)
    return found


def systemd_accepts(texts: list[str]) -> list[bool]:
    """Whether systemd takes each text for a span, in one call for them all."""
    script = 'for text; do "$0" timespan -- "$text" >/dev/null 2>&1; echo $?; done'
    command = ["sh", "-c", script, str(SYSTEMD_ANALYZE), *texts]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=True)
    return [status == "0" for status in done.stdout.split()]


def a_span(dice: random.Random) -> str:
    parts = []
    for _ in range(dice.randint(1, 4)):
        factor, (decimals, largest) = dice.choice(list(ORACLE_RANGE.items()))
        unit = dice.choice(SPELLINGS[factor])
        number = str(dice.randint(0, dice.choice((9, largest))))
        if decimals and dice.random() < 0.4:
            number = dice.choice((number, number, "")) + "." + "".join(dice.choices("0123456789", k=dice.randint(1, decimals)))
        if number[0] != "." and dice.random() < 0.1:
            number = "+" + number
        gap = dice.choice(("", " ")) if unit else " "
        parts.append(number + dice.choice(("", "", " ")) + unit + gap)
    return dice.choice(("", " ")) + "".join(parts)


@needs_systemd
@pytest.mark.parametrize("seed", range(3))
def test_systemd_reads_the_same_number_in_a_span(seed: int) -> None:
    dice = random.Random(seed)
    spans = [a_span(dice) for _ in range(500)]
    for span, (us, human) in zip(spans, systemd_reads(spans), strict=True):
        assert parse_duration_ns(span) == us * US, span
        assert parse_duration_ns(human) == us * US, f"systemd's own spelling {human!r}"
        # systemd-analyze prints all six decimals of a microsecond; we stop at the thousand that is exact
        assert format_duration(us * US) == re.sub(r"(\.(?:\d{3})*?)(?:000)+(?=[a-z])", r"\1", human)


@needs_systemd
def test_systemd_reads_what_we_print() -> None:
    dice = random.Random(7)
    amounts_us = [dice.randrange(10 ** dice.randint(1, 15)) for _ in range(500)]
    read = systemd_reads([format_duration(us * US) for us in amounts_us])
    assert [us for us, _ in read] == amounts_us
    assert systemd_reads([format_duration(INFINITY)]) == [(2**64 - 1, "infinity")]


@needs_systemd
def test_systemd_takes_and_refuses_the_same_texts() -> None:
    dice = random.Random(11)
    edges = ["", " ", "-0", "5s -0", ".", "1.", "1.s", "1. s", "3. 1", "3.+1", "+.5s", "5+5", "5 +5", "1s+5s", "5 .5", "5s.5", "1.5.5"]
    edges += ["infinity ", "infinity5", "5mins", "3hrs", "1 minute30", "0x10", "1e3"]
    junk = ["".join(dice.choices("0123456789..  +-smhdMwyu", k=dice.randint(1, 6))) for _ in range(150)]
    for text, accepted in zip(edges + junk, systemd_accepts(edges + junk), strict=True):
        try:
            parse_duration_ns(text)
        except ValueError as refusal:
            assert not accepted or "too large" in str(refusal), f"systemd takes {text!r}"
        else:
            assert accepted, f"systemd refuses {text!r}"
