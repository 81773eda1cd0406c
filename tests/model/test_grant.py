# SPDX-License-Identifier: Apache-2.0
"""Grants: what a process is told of its shared memory comes back as it was said, and nonsense is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.grant import LARGEST_BYTES, MODES, READER, SEGMENT, Grant, check_name, format_grants, parse_grants

names = st.text("abcXYZ019._-", min_size=1, max_size=64)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    kind = draw(st.sampled_from(sorted(MODES)))
    size = draw(st.integers(1, LARGEST_BYTES))
    count = 1 if kind == SEGMENT else 3 if kind == READER else draw(st.integers(0, 8)) * 2 + 1
    return Grant(
        name=draw(names),
        kind=kind,
        mode=draw(st.sampled_from(MODES[kind])),
        size_bytes=size,
        limit_bytes=draw(st.integers(size, LARGEST_BYTES)),
        fds=tuple(draw(st.lists(st.integers(0, 1 << 20), min_size=count, max_size=count))),
    )


@given(st.lists(grants(), max_size=6, unique_by=lambda grant: grant.name))
def test_what_is_formatted_is_parsed_back(made: list[Grant]) -> None:
    assert list(parse_grants(format_grants(made)).values()) == made


@given(st.text("segmntwriader:rwx0123456789,/ ", max_size=60))
def test_any_text_is_parsed_or_refused_with_the_variable_named(text: str) -> None:
    try:
        found = parse_grants(text)
    except ConfigError as error:
        assert error.source == "RINGFENCE_SHARED_MEMORY"
    else:
        assert parse_grants(format_grants(found.values())) == found


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("a:segment:r:5", "is not name:kind:mode:bytes:fd"),
        ("a:segment:r:5:x", "is not name:kind:mode:bytes:fd"),
        ("a:segment:r:-5:3", "is not name:kind:mode:bytes:fd"),
        ("a:segment:w:5:3", "no segment has the mode 'w'"),
        ("a:file:r:5:3", "no file has the mode"),
        ("a:segment:r:0:3", "0 bytes is no size"),
        ("a:segment:r:9/5:3", None),  # a limit below the size is no limit
        ("a:segment:r:5:3,4", "2 descriptors are not what a segment has"),
        ("a:segment:r:5:2147483648", "are no descriptors"),
        ("a:reader:queue:4096:3,4", "2 descriptors are not what a reader has"),
        ("a/b:segment:r:5:3", "must be 1 to 64 letters"),
        ("a:segment:r:5:3 a:segment:r:5:4", "given twice"),
    ],
)
def test_a_wrong_entry_is_named(entry: str, words: str | None) -> None:
    if words is None:
        assert parse_grants(entry)["a"].limit_bytes == 9
        return
    with pytest.raises(ConfigError, match=words):
        parse_grants(entry)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "x" * 65, None, 5])
def test_a_name_that_could_not_be_said_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="name: "):
        check_name(name)


def test_two_grants_of_one_name_are_refused() -> None:
    grant = Grant(name="a", kind=SEGMENT, mode="r", size_bytes=1, fds=(3,))
    with pytest.raises(ConfigError, match="a: given twice to one process"):
        format_grants([grant, grant])
