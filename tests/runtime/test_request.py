# SPDX-License-Identifier: Apache-2.0
"""One command started many times is specified once, and nothing that may change its meaning is remembered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import ConfigError
from supervisor.model.limits import Limits
from supervisor.model.policy.policy import Policy
from supervisor.runtime.request import Text, make_spec, spec_for

NO_TEXT = Text()


@pytest.mark.parametrize(
    "options",
    [{}, {"limits": Limits(limit_nofile=64)}, {"capture_output": True, "input": b""}, {"cwd": "/", "umask": 0o22, "timeout": 1.5}],
    ids=str,
)
def test_equal_arguments_give_one_specification_and_the_right_one(options: dict[str, Any]) -> None:
    first = spec_for(["true", "x"], NO_TEXT, options)
    assert spec_for(["true", "x"], NO_TEXT, dict(options)) is first
    assert first == make_spec(["true", "x"], **options)


@pytest.mark.parametrize(
    "options",
    [{"env": {"A": "1"}}, {"input": b"data"}, {"input": "data"}, {"user": os.getuid()}, {"preexec": [print]}, {"pass_fds": [5]}],
    ids=str,
)
def test_what_is_large_mutable_or_looked_up_is_made_anew(options: dict[str, Any]) -> None:
    text = Text(encoding="utf-8")
    assert spec_for(["true"], text, options) is not spec_for(["true"], text, options)


def test_a_command_of_many_words_is_made_anew() -> None:
    """Sixty-four of them kept would be as many megabytes."""
    args = ["true", "x" * 100_000]
    assert spec_for(args, NO_TEXT, {}) is not spec_for(args, NO_TEXT, {})


def test_a_policy_and_arguments_combine_to_the_tighter_of_each() -> None:
    policy = Policy(limits=Limits(limit_nofile=64, tasks_max=5), best_effort=frozenset({"tasks_max"}))
    spec = make_spec(["true"], policy=policy, limits={"limit_nofile": 128, "output_max": 9}, best_effort=["io_weight"], timeout=1)
    assert spec.limits == Limits(limit_nofile=64, tasks_max=5, output_max=9, wall_time_max=1)
    assert spec.best_effort == {"tasks_max", "io_weight"}


def test_a_policy_is_read_anew_for_every_job(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    for amount in (5, 6):
        path.write_text(f"[profile.x]\ntasks_max = {amount}\n", encoding="utf-8")
        path.chmod(0o644)
        assert spec_for(["true"], NO_TEXT, {"policy": str(path)}).limits.tasks_max == amount


@pytest.mark.parametrize("asked", [None, "none"])
def test_a_policys_sandbox_is_not_lifted_by_asking_for_none(asked: str | None) -> None:
    made = make_spec(["true"], policy="judge", sandbox=asked).sandbox
    assert made is not None and (made.level, made.network) == ("strict", "none")


def test_values_that_are_equal_but_of_another_type_are_not_confused() -> None:
    assert spec_for(["true"], NO_TEXT, {"stdin": 1}).stdin == 1
    with pytest.raises(ConfigError, match="stdin"):
        spec_for(["true"], NO_TEXT, {"stdin": True})


def test_a_changed_list_of_arguments_is_another_command() -> None:
    args = ["echo", "a"]
    first = spec_for(args, NO_TEXT, {})
    args[1] = "b"
    assert first.argv == ("echo", "a") and spec_for(args, NO_TEXT, {}).argv == ("echo", "b")
