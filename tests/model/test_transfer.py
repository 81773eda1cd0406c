# SPDX-License-Identifier: Apache-2.0
"""Names, patterns and caps of files in and out; what two looks round tell."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.changes import Look, Seen, compare
from supervisor.model.transfer import TransferCaps, leads_on, matches, parse_files, parse_name, parse_patterns, wanted

ALPHABET = "ab*?[!-]."


@given(st.text(ALPHABET, max_size=8), st.text("ab.-]!", max_size=8))
def test_a_component_matches_as_fnmatch_says(pattern: str, name: str) -> None:
    if "--" in pattern or "-]" in pattern or "[-" in pattern or "!-" in pattern:
        return  # ranges without an end: fnmatch has rules of its own
    assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


def test_a_hostile_name_costs_no_more_than_a_product() -> None:
    began = time.monotonic()
    assert not matches("*a" * 40 + "b", "a" * 255)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("out/*.txt", "out/a.txt", True),
        ("out/*.txt", "out/d/a.txt", False),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("out/**", "out/x/y", True),
        ("out/**", "other", False),
        ("**", "x", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/1/2/b", True),
        ("a", "a/b", False),
    ],
)
def test_whole_names(pattern: str, name: str, does: bool) -> None:
    assert wanted(parse_patterns(pattern), tuple(name.split("/"))) is does


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "?"]), min_size=1, max_size=4), st.lists(st.sampled_from("abc"), min_size=1, max_size=5)
)
def test_every_directory_above_a_match_leads_on(pattern: list[str], name: list[str]) -> None:
    patterns, parts = (tuple(pattern),), tuple(name)
    if wanted(patterns, parts):
        assert all(leads_on(patterns, parts[:n]) for n in range(1, len(parts)))


@given(st.text(max_size=20))
def test_a_name_never_leads_out(text: str) -> None:
    try:
        parts = parse_name(text)
    except ConfigError:
        return
    assert parts and not {"", ".", ".."} & set(parts) and not any("/" in part or "\0" in part for part in parts)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_files({"/x": b"", "a": 1, "./a": b""})
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError) as caught:
        TransferCaps(bytes_max="1X", files_max=-1)
    assert len(caught.value.problems) == 2


names = st.dictionaries(st.sampled_from("abc"), st.builds(Seen, kind=st.sampled_from(["file", "link"]), size_bytes=st.integers(0, 2)))


@given(names, names)
def test_changes_lead_from_one_look_to_the_other(before: dict[str, Seen], after: dict[str, Seen]) -> None:
    changes = {change.name: change.change for change in compare(Look(seen=before), Look(seen=after))}
    for name in "abc":
        old, new = before.get(name), after.get(name)
        expected = None if old == new else "created" if old is None else "deleted" if new is None else "modified"
        assert changes.get(name) == expected


def test_what_a_look_may_not_have_seen_is_not_told() -> None:
    part, whole = Look(complete=False), Look(seen={"a": Seen(kind="file", size_bytes=1)})
    assert compare(part, whole) == () and compare(whole, part) == ()
