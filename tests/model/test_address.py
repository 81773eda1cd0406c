# SPDX-License-Identifier: Apache-2.0
"""Addresses on an exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import ConfigError
from supervisor.model.address import LETTERS, check_name, check_topic, is_many


@given(st.text(alphabet=sorted(LETTERS), min_size=1, max_size=64))
def test_a_name_is_neither_everybody_nor_a_topic(name: str) -> None:
    assert check_name(name) == name
    assert check_topic(f"#{name}") == f"#{name}"
    assert not is_many(name)
    assert is_many(f"#{name}")


@pytest.mark.parametrize("name", ["", "*", "#a", "a b", "a\n", "x" * 65, "gr\u00fcn", "a/b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name: "):
        check_name(name)
    with pytest.raises(ConfigError):
        check_topic(name if name.startswith("#") else f"#{name}") if name != "#a" else check_topic("a")
