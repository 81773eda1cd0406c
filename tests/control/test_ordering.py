# SPDX-License-Identifier: Apache-2.0
"""Who starts after whom, who is drawn in, and what cannot be ordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_strategies import relaxed, service

from supervisor.control.ordering import check_order, drawn_in, drawn_out, find_circles, start_waves
from supervisor.errors import ConfigError
from supervisor.model.service import ServiceSpec

NAMES = "abcdefgh"
Specs = dict[str, ServiceSpec]


def made(after: dict[str, list[str]], requires: dict[str, list[str]] | None = None) -> Specs:
    names = {*after, *(requires or {}), *[name for group in (after, requires or {}) for names in group.values() for name in names]}
    return {name: service(name=name, after=after.get(name, []), requires=(requires or {}).get(name, [])) for name in sorted(names)}


def _graphs(acyclic: bool) -> st.SearchStrategy[Specs]:
    pairs = [(a, b) for a in NAMES for b in NAMES if (a < b if acyclic else a != b)]

    def build(after: list[tuple[str, str]], requires: list[tuple[str, str]]) -> Specs:
        return {
            name: service(name=name, after=[b for a, b in after if a == name], requires=[b for a, b in requires if a == name])
            for name in NAMES
        }

    return st.builds(
        build, st.lists(st.sampled_from(pairs), unique=True, max_size=20), st.lists(st.sampled_from(pairs), unique=True, max_size=10)
    )


@given(_graphs(acyclic=True), st.frozensets(st.sampled_from(NAMES)))
@relaxed
def test_each_wave_comes_after_all_that_it_waits_for(specs: Specs, names: frozenset[str]) -> None:
    waves = start_waves(specs, names)
    assert sorted(name for wave in waves for name in wave) == sorted(names)
    place = {name: number for number, wave in enumerate(waves) for name in wave}
    for name in names:
        before = [other for other in specs[name].after if other in names]
        assert all(place[other] < place[name] for other in before)
        assert place[name] == max([place[other] + 1 for other in before], default=0), "and no later than it must"


@given(_graphs(acyclic=False))
@relaxed
def test_waves_exist_exactly_where_there_is_no_circle(specs: Specs) -> None:
    circles = find_circles(specs)
    for circle in circles:
        assert all(circle[(n + 1) % len(circle)] in specs[name].after for n, name in enumerate(circle))
    if circles:
        with pytest.raises(ConfigError):
            check_order(specs)
        with pytest.raises(ConfigError):
            start_waves(specs, specs)
    else:
        check_order(specs)
        start_waves(specs, specs)


@given(_graphs(acyclic=False), st.frozensets(st.sampled_from(NAMES)))
@relaxed
def test_drawing_in_and_out_are_closed_and_mirror_each_other(specs: Specs, names: frozenset[str]) -> None:
    inside = drawn_in(specs, names)
    assert names <= inside
    assert all(set(specs[name].requires) <= inside for name in inside)
    for name in NAMES:
        for other in NAMES:
            assert (other in drawn_in(specs, [name])) == (name in drawn_out(specs, [other]))


def test_a_circle_is_told_from_its_first_name_on() -> None:
    with pytest.raises(ConfigError) as caught:
        check_order(made({"web": ["api"], "api": ["db"], "db": ["web"], "log": []}))
    assert caught.value.problems == ("api: after: a circle: api -> db -> web -> api",)


def test_every_unknown_name_is_told_with_the_nearest_one() -> None:
    specs = {"web": service(name="web", requires=["databse"], after=["nobody"]), "database": service(name="database")}
    with pytest.raises(ConfigError) as caught:
        check_order(specs)
    assert caught.value.problems == (
        "web: requires: there is no service 'databse'; did you mean 'database'?",
        "web: after: there is no service 'nobody'",
    )
