# SPDX-License-Identifier: Apache-2.0
"""getopt_long: the C library's rules; tests/cli/test_compat_getopt.py asks the C library itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.getopt_long import NO_ARGUMENT, OPTIONAL_ARGUMENT, REQUIRED_ARGUMENT, getopt_long

LONG = {"cg": NO_ARGUMENT, "cg-mem": REQUIRED_ARGUMENT, "verbose": NO_ARGUMENT, "version": NO_ARGUMENT, "processes": OPTIONAL_ARGUMENT}
SHORT = {"v": "verbose", "p": "processes", "m": "cg-mem"}


@pytest.mark.parametrize(
    ("argv", "found", "operands"),
    [
        (["--cg-mem=5", "a"], [("cg-mem", "5")], ["a"]),
        (["--cg-mem", "5"], [("cg-mem", "5")], []),
        (["--cg"], [("cg", None)], []),  # exact, though it begins another name
        (["--verb"], [("verbose", None)], []),
        (["--cg-mem", "--cg"], [("cg-mem", "--cg")], []),
        (["--processes", "3"], [("processes", None)], ["3"]),
        (["--processes=3"], [("processes", "3")], []),
        (["-p3"], [("processes", "3")], []),
        (["-p", "3"], [("processes", None)], ["3"]),
        (["-vm7"], [("verbose", None), ("cg-mem", "7")], []),
        (["-vm", "7"], [("verbose", None), ("cg-mem", "7")], []),
        (["-m", "--"], [("cg-mem", "--")], []),
        (["a", "-v", "-", "--", "-v"], [("verbose", None)], ["a", "-", "-v"]),
    ],
)
def test_words_are_read_as_the_c_library_does(argv: list[str], found: list[tuple[str, str | None]], operands: list[str]) -> None:
    assert getopt_long(argv, LONG, SHORT) == (found, operands)


def test_without_permuting_the_first_operand_ends_the_options() -> None:
    assert getopt_long(["-v", "a", "-v", "--cg"], LONG, SHORT, permute=False) == ([("verbose", None)], ["a", "-v", "--cg"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nope"], "unrecognized option '--nope'"),
        (["--ver"], "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"),
        (["--cg=1"], "option '--cg' doesn't allow an argument"),
        (["--cg-mem"], "option '--cg-mem' requires an argument"),
        (["-x"], "invalid option -- 'x'"),
        (["-vm"], "option requires an argument -- 'm'"),
    ],
)
def test_what_is_wrong_is_said_in_the_c_librarys_words(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words}$"):
        getopt_long(argv, LONG, SHORT)


@given(st.lists(st.sampled_from(["-", "--", "-v", "-p", "-pm", "-m", "-mv", "--cg", "--cg=", "--c", "--p=1", "--ver", "a", "", "-vv"])))
def test_every_command_line_is_read_or_refused(argv: list[str]) -> None:
    """Nothing but operands survives behind --, and no word is lost or made up."""
    try:
        found, operands = getopt_long(argv, LONG, SHORT)
    except ConfigError:
        return
    assert {name for name, _ in found} <= LONG.keys()
    assert all(word in argv for word in operands)
    taken = [argument for name, argument in found if argument is not None and LONG[name] == REQUIRED_ARGUMENT]
    assert len(operands) + len(taken) <= len(argv) + sum(len(word) for word in argv)
