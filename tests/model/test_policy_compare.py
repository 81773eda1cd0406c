# SPDX-License-Identifier: Apache-2.0
"""Comparing two policies: what is tighter and what is looser, by the rule by which limits combine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from model_strategies import any_limits

from supervisor import Limits, Policy, Sandbox
from supervisor.model.policy.adaptive import Bounds
from supervisor.model.policy.compare import CHANGED, LOOSENED, TIGHTENED, Difference, compare


def kinds(before: Policy, after: Policy) -> dict[str, str]:
    return {difference.key: difference.kind for difference in compare(before, after)}


def limited(**limits: Any) -> Policy:
    return Policy(limits=Limits(**limits))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"tasks_max": 5}, {"tasks_max": 4}, {"tasks_max": TIGHTENED}),
        ({"wall_time_max": "1s"}, {"wall_time_max": "1h"}, {"wall_time_max": LOOSENED}),
        ({}, {"output_max": 5}, {"output_max": TIGHTENED}),
        ({"output_max": 5}, {}, {"output_max": LOOSENED}),
        ({"output_max": 5}, {"output_max": "infinity"}, {"output_max": LOOSENED}),
        ({}, {"output_max": "infinity"}, {}),
        ({"allowed_cpus": "0-3"}, {"allowed_cpus": "1-2"}, {"allowed_cpus": TIGHTENED}),
        ({"allowed_cpus": "0-3"}, {"allowed_cpus": "2-5"}, {"allowed_cpus": CHANGED}),
        ({"allowed_cpus": "0"}, {"allowed_cpus": "1"}, {"allowed_cpus": CHANGED}),
        ({"limit_nofile": "5:10"}, {"limit_nofile": "6:9"}, {"limit_nofile": CHANGED}),
        ({"limit_nofile": "5:10"}, {"limit_nofile": "5:9"}, {"limit_nofile": TIGHTENED}),
        ({"memory_max": "1G"}, {"memory_max": "50%"}, {"memory_max": CHANGED}),
        ({"memory_max": "1G"}, {"memory_max": "1G", "memory_swap_max": "1G"}, {"memory_swap_max": LOOSENED}),
        ({"memory_max": "1G"}, {"memory_max": "1G", "memory_swap_max": 0}, {}),
        ({"memory_swap_max": "1G"}, {"memory_max": "1G"}, {"memory_max": TIGHTENED, "memory_swap_max": TIGHTENED}),
        (
            {"io_read_iops_max": "/dev/a 5"},
            {"io_read_iops_max": ["/dev/a 5", "/dev/b 5"]},
            {"io_read_iops_max": TIGHTENED},
        ),
    ],
)
def test_limits(before: dict[str, Any], after: dict[str, Any], found: dict[str, str]) -> None:
    assert kinds(limited(**before), limited(**after)) == found


@given(any_limits)
def test_a_policy_does_not_differ_from_itself(limits: Limits) -> None:
    assert compare(Policy(limits=limits), Policy(limits=limits)) == ()


@given(any_limits, any_limits)
def test_the_way_back_undoes_every_difference(a: Limits, b: Limits) -> None:
    back = {TIGHTENED: LOOSENED, LOOSENED: TIGHTENED, CHANGED: CHANGED}
    there, again = kinds(Policy(limits=a), Policy(limits=b)), kinds(Policy(limits=b), Policy(limits=a))
    assert again == {key: back[kind] for key, kind in there.items()}


def test_what_may_lapse_is_looser() -> None:
    assert kinds(Policy(), Policy(best_effort=frozenset({"tasks_max"}))) == {"best_effort.tasks_max": LOOSENED}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"level": "basic"}, {"level": "basic", "private_tmp": False}, {"sandbox.private_tmp": LOOSENED}),
        ({"level": "strict", "network": "host"}, {"level": "strict"}, {"sandbox.network": TIGHTENED}),
        ({"level": "strict"}, {"level": "strict", "bind": ["/srv"]}, {"sandbox.bind": LOOSENED}),
        ({"level": "strict", "bind": ["/srv"]}, {"level": "strict", "bind": ["/srv:rw"]}, {"sandbox.bind": LOOSENED}),
        ({"level": "strict", "bind": ["/srv"]}, {"level": "strict", "bind": ["/opt:/srv"]}, {"sandbox.bind": CHANGED}),
        (
            {"level": "strict", "syscalls_deny": ["bpf"]},
            {"level": "strict", "syscalls_deny": ["bpf", "kcmp"]},
            {"sandbox.syscalls_deny": TIGHTENED},
        ),
        ({"level": "strict"}, {"level": "strict", "syscalls_kill": True}, {"sandbox.syscalls_kill": TIGHTENED}),
        ({"level": "strict"}, {"level": "strict", "syscalls": "none"}, {"sandbox.syscalls": LOOSENED}),
        ({"level": "strict"}, {"level": "strict", "syscalls": "compute"}, {"sandbox.syscalls": TIGHTENED}),
        ({"level": "strict", "syscalls": "python"}, {"level": "strict", "syscalls": "compute"}, {"sandbox.syscalls": CHANGED}),
        ({"level": "strict", "keep_env": ["a"]}, {"level": "strict", "keep_env": ["b"]}, {"sandbox.keep_env": CHANGED}),
        ({"level": "strict", "tmp_size": "1M"}, {"level": "strict", "tmp_size": "2M"}, {"sandbox.tmp_size": LOOSENED}),
        ({"level": "strict"}, {"level": "strict", "landlock": True}, {"sandbox.landlock": TIGHTENED}),
        ({"level": "strict"}, {"level": "strict", "hostname": "x"}, {"sandbox.hostname": CHANGED}),
    ],
)
def test_sandboxes(before: dict[str, Any], after: dict[str, Any], found: dict[str, str]) -> None:
    assert kinds(Policy(sandbox=Sandbox(**before)), Policy(sandbox=Sandbox(**after))) == found


def test_a_level_is_judged_with_everything_it_brings() -> None:
    found = kinds(Policy(), Policy(sandbox=Sandbox(level="strict")))
    assert found["sandbox.level"] == found["sandbox.network"] == found["sandbox.clear_env"] == TIGHTENED
    assert LOOSENED not in found.values()


def test_bounds_are_judged_by_their_greatest_value() -> None:
    small, large = Bounds(min=1, max=5), Bounds(min=1, max=9)
    (found,) = compare(Policy(adaptive={"tasks_max": small}), Policy(adaptive={"tasks_max": large}))
    assert found == Difference(key="adaptive.tasks_max", kind=LOOSENED, before="1 to 5", after="1 to 9")
