# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.value`` claims: immutable, keyword-only, comparable, hashable, picklable, and cheap to import."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import any_limits, brief, relaxed, specs

from supervisor.model import value as module
from supervisor.model.limits import Limits
from supervisor.model.outcome import Usage
from supervisor.model.spec import JobSpec
from supervisor.model.value import as_dict, field_names, plain, replace, set_field, value


@value
class Point:
    """Two numbers and some words."""

    x: int
    y: int = 0
    words: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.x + self.y

    def moved(self, by: int) -> Point:
        return replace(self, x=self.x + by)


@value
class Twin:
    """The same fields as another class."""

    x: int
    y: int = 0
    words: tuple[str, ...] = ()


@value
class Even:
    """A check that normalises and refuses."""

    n: Any

    def _check(self) -> None:
        set_field(self, "n", int(self.n))
        if self.n % 2:
            raise ValueError("odd")


points = st.builds(lambda x, y, words: Point(x=x, y=y, words=words), st.integers(), st.integers(), st.tuples(st.text()))


def test_arguments_by_position_are_refused_with_the_class_and_the_way_to_do_it() -> None:
    with pytest.raises(TypeError, match=r"^Point\(\) takes no positional arguments, 2 given: name them, as in Point\(x=\.\.\.\)$"):
        Point(1, 2)  # type: ignore[call-arg]


def test_costs_no_import() -> None:
    script = "import sys; old = set(sys.modules); exec(compile(open(sys.argv[1]).read(), '', 'exec'), {}); print(*set(sys.modules) - old)"
    command = [sys.executable, "-I", "-S", "-c", script, str(Path(module.__file__))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() in ([], ["__future__"])


@pytest.mark.parametrize("name", ["x", "y", "nosuch", "_fields", "__class__"])
def test_no_attribute_can_be_set_or_deleted(name: str) -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="Point is immutable"):
        setattr(point, name, 5)
    with pytest.raises(AttributeError, match="Point is immutable"):
        delattr(point, name)
    assert point == Point(x=1)


def test_fields_are_given_by_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        Point(1)  # type: ignore[call-arg]


def test_an_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match=r"Point\(\) got an unexpected keyword argument 'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match=r"Point\(\) missing required keyword argument 'x'"):
        Point(y=2)  # type: ignore[call-arg]


def test_defaults_fill_what_is_left_out() -> None:
    assert as_dict(Point(x=1)) == {"x": 1, "y": 0, "words": ()}


def test_properties_and_methods_work() -> None:
    assert Point(x=1, y=2).total == 3
    assert Point(x=1).moved(4) == Point(x=5)


def test_the_check_normalises_and_refuses() -> None:
    assert Even(n="4").n == 4
    with pytest.raises(ValueError, match="odd"):
        Even(n=3)


@relaxed
@given(points, points)
def test_equality_is_that_of_the_fields_and_equal_values_hash_alike(a: Point, b: Point) -> None:
    assert (a == b) == (as_dict(a) == as_dict(b))
    again = Point(**as_dict(a))
    assert a == again
    assert hash(a) == hash(again)


def test_values_of_different_classes_are_never_equal() -> None:
    others: list[object] = [Point(x=1), Twin(x=1), 1]
    assert [other == Point(x=1) for other in others] == [True, False, False]
    assert len({*others}) == len(others)


@relaxed
@given(points)
def test_pickles_and_copies_are_equal(point: Point) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(point, protocol)) == point
    assert copy.copy(point) == copy.deepcopy(point) == point


@relaxed
@given(any_limits)
def test_limits_survive_pickling_although_their_check_would_read_numbers_as_other_units(limits: Limits) -> None:
    assert pickle.loads(pickle.dumps(limits)) == limits


@brief
@given(specs())
def test_a_specification_survives_pickling(spec: JobSpec) -> None:
    assert pickle.loads(pickle.dumps(spec)) == spec


@relaxed
@given(points)
def test_repr_reads_back_as_the_value(point: Point) -> None:
    assert eval(repr(point), {"Point": Point}) == point


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(Point(x=1)) == "Point(x=1)"
    assert repr(Point(x=1, words=("a",))) == "Point(x=1, words=('a',))"


def test_replace_changes_some_fields_of_a_copy_and_knows_no_others() -> None:
    point = Point(x=1, y=2)
    assert replace(point, y=3) == Point(x=1, y=3)
    assert point == Point(x=1, y=2)
    with pytest.raises(AttributeError):
        replace(point, z=1)


def test_field_names_are_in_order_of_declaration() -> None:
    assert field_names(Point) == field_names(Point(x=1)) == ("x", "y", "words")


def test_plain_is_ready_for_json() -> None:
    assert plain(Point(x=1, words=("a",))) == {"x": 1, "y": 0, "words": ["a"]}
    assert plain({1: (Point(x=1), None)}) == {"1": [{"x": 1, "y": 0, "words": []}, None]}
    assert plain("text") == "text"


def test_a_filled_value_is_the_constructed_one() -> None:
    given = {"cpu_ns": 3, "wall_ns": 5}
    assert module.filled(Usage, given) == Usage(cpu_ns=3, wall_ns=5)
    assert given == {"cpu_ns": 3, "wall_ns": 5} and module.filled(Usage, {}) == Usage()


def test_a_filled_value_refuses_what_is_no_field() -> None:
    with pytest.raises(AttributeError, match="cpu_seconds"):
        module.filled(Usage, {"cpu_seconds": 3})
