# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema accepts what the check accepts, refuses the obvious mistakes, and knows every key there is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from model_strategies import spellings

import supervisor
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.policy.file import parse_file
from supervisor.model.policy.schema import SANDBOX, policy_schema
from supervisor.model.sandbox import Sandbox
from supervisor.model.value import field_names

SCHEMA = policy_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LIBRARY = sorted((Path(supervisor.__file__).parent / "policies").glob("*.toml"))


def accepted(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def test_it_is_a_schema_of_the_draft_it_names() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_the_library_is_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]
    assert not parse_file(text, path.name).all_problems()


def plain(item: Any) -> bool:
    """What TOML can hold."""
    if isinstance(item, (list, tuple)):
        return all(map(plain, item))
    return isinstance(item, (str, int, float)) and not isinstance(item, bool)


@given(spellings(shares=True))
def test_every_spelling_of_a_limit_that_the_parser_takes_is_valid(given: dict[str, Any]) -> None:
    limits = {name: list(item) if isinstance(item, tuple) else item for name, item in given.items() if plain(item)}
    assert not [error.message for error in VALIDATOR.iter_errors({"profile": {"x": limits}})]


@pytest.mark.parametrize(
    "profile",
    [
        {"memory_mx": 1},
        {"memory_max": "lots"},
        {"memory_max": True},
        {"memory_min": "auto"},
        {"wall_time_max": 0},
        {"wall_time_max": "10%"},
        {"tasks_max": -1},
        {"cpu_quota": 50},
        {"cpu_weight": 0},
        {"io_read_iops_max": []},
        {"best_effort": ["memory"]},
        {"best_effort": "tasks_max"},
        {"extends": ""},
        {"sandbox": "strict"},
        {"sandbox": {"level": "strictest"}},
        {"sandbox": {"levl": "strict"}},
        {"sandbox": {"bind": [{"target": "/x"}]}},
        {"adaptive": {"memory_high": {"min": 1}}},
        {"adaptive": {"limit_nofile": {"min": 1, "max": 2}}},
    ],
    ids=str,
)
def test_mistakes_that_an_editor_can_show_are_invalid(profile: dict[str, Any]) -> None:
    assert not accepted({"profile": {"x": profile}})


def test_other_tables_and_odd_names_are_invalid() -> None:
    assert not accepted({"profiles": {}})
    assert not accepted({"profile": {}})
    assert not accepted({"profile": {"a b": {}}})
    assert accepted({"profile": {"a-b.c_1": {}}})


def test_every_limit_has_a_description_and_every_sandbox_key_a_shape() -> None:
    properties = SCHEMA["$defs"]["profile"]["properties"]
    assert all(properties[name]["description"].startswith(kind.help) for name, kind in LIMITS.items())
    assert all(kind.directive in properties for kind in LIMITS.values())
    assert set(SANDBOX) == set(field_names(Sandbox))
