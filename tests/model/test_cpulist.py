# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.cpulist`` claims: the kernel's spelling, read leniently where that is harmless."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.model import cpulist
from supervisor.model.cpulist import CPU_MAX, format_cpu_list, parse_cpu_list

relaxed = settings(deadline=None)
cpu_numbers = st.one_of(st.integers(0, 20), st.integers(0, CPU_MAX))


def test_costs_no_import() -> None:
    script = "import sys; old = set(sys.modules); exec(compile(open(sys.argv[1]).read(), '', 'exec'), {}); print(*set(sys.modules) - old)"
    command = [sys.executable, "-I", "-S", "-c", script, str(Path(cpulist.__file__))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() in ([], ["__future__"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0,)),
        ("0-3,8 10", (0, 1, 2, 3, 8, 10)),
        ("3,1,2,1", (1, 2, 3)),
        ("0-2,1-4", (0, 1, 2, 3, 4)),
        ("5-5", (5,)),
        (" 0, 2\t4\n", (0, 2, 4)),
        ("0,,2,", (0, 2)),
        ("8191", (CPU_MAX,)),
        ("0-8191", tuple(range(CPU_MAX + 1))),
    ],
)
def test_lists_are_read(text: str, expected: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty list of CPUs"),
        (" ,\n", "empty list of CPUs"),
        ("3-1", "reversed range '3-1' in a list of CPUs: write 1-3"),
        ("8192", "CPU number too large in '8192': the highest is 8191"),
        ("0-99999", "too large in '0-99999'"),
        ("9" * 5000, "CPU number too large in '9{56}...'"),
        ("-1", "'-1' is not a CPU or a range"),
        ("1-", "'1-' is not a CPU or a range"),
        ("1-2-3", "'1-2-3' is not a CPU or a range"),
        ("3 - 5", "'-' is not a CPU or a range"),
        ("+1", "is not a CPU or a range"),
        ("1.5", "is not a CPU or a range"),
        ("all", "'all' is not a CPU or a range"),
        ("0-31:2/16", "is not a CPU or a range"),
        ("0x1", "is not a CPU or a range"),
        ("0;1", "is not a CPU or a range"),
        ("\u0661", "is not a CPU or a range"),
        ("1\0", r"'1\\x00' is not a CPU or a range"),
        ("Q" * 5000, "^'Q{56}...' is not a CPU"),
        ("010", "leading zero in '010'"),
        (3, "int is not a list of CPUs"),
        (None, "NoneType is not a list of CPUs"),
        ([0, 1], "list is not a list of CPUs"),
    ],
)
def test_a_refused_list_says_why(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_cpu_list(text)


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [((), ""), ((7,), "7"), ((0, 1), "0-1"), ((0, 1, 2, 3, 8), "0-3,8"), ((8, 3, 1, 2, 1, 0), "0-3,8"), ((0, 2, 4), "0,2,4")],
)
def test_lists_are_printed_like_the_kernel(cpus: tuple[int, ...], expected: str) -> None:
    assert format_cpu_list(cpus) == expected


@pytest.mark.parametrize("cpu", [-1, CPU_MAX + 1, True, 1.0, "1", None])
def test_only_cpu_numbers_are_printed(cpu: Any) -> None:
    with pytest.raises(ValueError, match="not a CPU number"):
        format_cpu_list([0, cpu])


@given(st.sets(cpu_numbers, min_size=1))
@relaxed
def test_lists_survive_the_round_trip(cpus: set[int]) -> None:
    text = format_cpu_list(cpus)
    assert parse_cpu_list(text) == tuple(sorted(cpus))
    assert format_cpu_list(parse_cpu_list(text)) == text, "one spelling for one set"


@given(st.lists(st.tuples(cpu_numbers, cpu_numbers), min_size=1, max_size=8), st.sampled_from([",", " ", ", ", "\t,", "\n"]))
@relaxed
def test_a_list_names_exactly_what_its_ranges_hold(pairs: list[tuple[int, int]], separator: str) -> None:
    ranges = [(min(pair), max(pair)) for pair in pairs]
    expected = {cpu for low, high in ranges for cpu in range(low, high + 1)}
    found = parse_cpu_list(separator.join(f"{low}-{high}" for low, high in ranges))
    assert found == tuple(sorted(expected))


@given(st.one_of(st.text(max_size=200), st.text(alphabet="0123456789-, \n\u0661x", max_size=30)))
@relaxed
def test_any_text_is_a_list_or_a_one_line_complaint(text: str) -> None:
    try:
        cpus = parse_cpu_list(text)
    except ValueError as refusal:
        assert type(refusal) is ValueError
        assert str(refusal).isprintable()
    else:
        assert cpus
        assert list(cpus) == sorted(set(cpus))
        assert all(type(cpu) is int and 0 <= cpu <= CPU_MAX for cpu in cpus)


@pytest.mark.skipif(
    not Path("/sys/devices/system/cpu/online").is_file(),
    reason="this host has no /sys/devices/system/cpu/online, so the kernel's own spelling cannot be read",
)
def test_the_kernels_own_list_comes_back_unchanged() -> None:
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    assert format_cpu_list(parse_cpu_list(text)) == text
