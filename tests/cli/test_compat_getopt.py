# SPDX-License-Identifier: Apache-2.0
"""getopt_long against the C library's own, through getopt(1) of util-linux."""

from __future__ import annotations

import shlex
import subprocess

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.getopt_long import NO_ARGUMENT, OPTIONAL_ARGUMENT, getopt_long
from supervisor.model.isolate_options import LONG, SHORT

MARKS = {NO_ARGUMENT: "", OPTIONAL_ARGUMENT: "::"}
LETTERS = "".join(letter + MARKS.get(LONG[name], ":") for letter, name in SHORT.items())
NAMES = ",".join(name + MARKS.get(follows, ":") for name, follows in LONG.items())
words = st.one_of(
    st.sampled_from(sorted(LONG)).flatmap(lambda name: st.integers(1, len(name)).map(lambda n: "--" + name[:n])),
    st.sampled_from(sorted(LONG)).map(lambda name: f"--{name}=x y"),
    st.lists(st.sampled_from(sorted(SHORT)), min_size=1, max_size=4).map(lambda letters: "-" + "".join(letters)),
    st.sampled_from(["--", "-", "prog", "", "7", "--nope", "-z"]),
)


def asked(argv: list[str], permute: bool) -> tuple[list[tuple[str, str | None]], list[str]] | None:
    """What the C library makes of the words, with long names throughout; None when it refuses them."""
    letters = LETTERS if permute else "+" + LETTERS
    done = subprocess.run(["getopt", "-q", "-o", letters, "-l", NAMES, "--", *argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    told = shlex.split(done.stdout)
    found: list[tuple[str, str | None]] = []
    while (word := told.pop(0)) != "--":
        name = SHORT[word[1]] if not word.startswith("--") else word[2:]
        argument = None if LONG[name] == NO_ARGUMENT else told.pop(0)
        # getopt(1) prints an optional argument that is not there as an empty one
        found.append((name, None if LONG[name] == OPTIONAL_ARGUMENT and argument == "" else argument))
    return found, told


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["--st=x"], True)
@example(["--verb", "-pvM"], True)
@example(["prog", "-t1", "--", "-t"], False)
@given(st.lists(words, max_size=6), st.booleans())
def test_every_command_line_is_read_as_the_c_library_reads_it(argv: list[str], permute: bool) -> None:
    try:
        ours = getopt_long(argv, LONG, SHORT, permute=permute)
    except ConfigError:
        assert asked(argv, permute) is None
        return
    ours = [(name, argument or None if LONG[name] == OPTIONAL_ARGUMENT else argument) for name, argument in ours[0]], ours[1]
    assert ours == asked(argv, permute)
