# SPDX-License-Identifier: Apache-2.0
"""A quickened value differs from the general one in speed only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.value import as_dict, set_field, value
from supervisor.runtime.quicken import quicken


@value
class Halved:
    """A value with everything: required, defaulted, checked."""

    number: int
    note: str = "none"
    half: int = 0

    def _check(self) -> None:
        if self.number % 2:
            raise ValueError("odd")
        set_field(self, "half", self.number // 2)


@value
class QuickHalved:
    """The same, quickened."""

    number: int
    note: str = "none"
    half: int = 0

    def _check(self) -> None:
        if self.number % 2:
            raise ValueError("odd")
        set_field(self, "half", self.number // 2)


quicken(QuickHalved)


@given(st.dictionaries(st.sampled_from(["number", "note", "half", "other"]), st.integers(0, 5)))
def test_a_quickened_value_takes_refuses_and_holds_what_the_general_one_does(given_fields: dict[str, int]) -> None:
    def made(cls: type) -> object:
        try:
            return as_dict(cls(**given_fields))
        except (TypeError, ValueError) as error:
            return type(error)

    assert made(QuickHalved) == made(Halved)


def test_quickening_twice_changes_nothing() -> None:
    before = QuickHalved.__init__
    quicken(QuickHalved)
    assert QuickHalved.__init__ is before
    assert QuickHalved(number=4) == QuickHalved(number=4) and hash(QuickHalved(number=4)) == hash(QuickHalved(number=4))
