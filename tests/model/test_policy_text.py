# SPDX-License-Identifier: Apache-2.0
"""What is written as TOML reads back as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.policy.text import Entry, format_profile, toml_value

texts = st.text(st.characters(codec="utf-8"))
plain = st.recursive(
    st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)),
    max_leaves=8,
)


@given(st.dictionaries(texts, plain), texts, texts)
def test_a_profile_reads_back(items: dict[str, Any], reason: str, remark: str) -> None:
    text = format_profile("a.b", [Entry(key=key, item=item, reason=reason) for key, item in items.items()], remarks=[remark])
    assert tomllib.loads(text) == {"profile": {"a.b": items}}


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(TypeError):
        toml_value(None)
