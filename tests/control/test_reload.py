# SPDX-License-Identifier: Apache-2.0
"""What a changed policy means for a running job: what moves now, what waits for a new job, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import ConfigError, Limits, Policy, Sandbox
from supervisor.control.reload import TIMERS, decide_reload, try_reload
from supervisor.model.enforce import CGROUP_FILES
from supervisor.model.host import CONTROLLERS, CgroupFacts, Host
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.relative import resolve_relative
from supervisor.model.value import replace

FULL = Host(cgroup=CgroupFacts(source="root", path="/", controllers=frozenset(CONTROLLERS)), memory_total_bytes=1 << 34, processors=4)
BARE = replace(FULL, cgroup=None)
NONE = Limits()


def limited(**limits: Any) -> Policy:
    return Policy(limits=Limits(**limits))


def applied(before: dict[str, Any], after: dict[str, Any], host: Host = FULL, **own: Any) -> dict[str, Any]:
    return dict(decide_reload(limited(**before), limited(**after), Limits(**own), host).apply)


@pytest.mark.parametrize(
    ("before", "after", "apply"),
    [
        ({"memory_max": "1G"}, {"memory_max": "2G"}, {"memory_max": "2G"}),
        ({"memory_max": "1G"}, {"memory_max": "50%"}, {"memory_max": "8G"}),
        ({"memory_max": "auto"}, {"memory_max": "75%"}, {}),
        ({}, {"memory_max": "1G"}, {"memory_max": "1G", "memory_swap_max": "0"}),
        ({"memory_max": "1G"}, {}, {"memory_max": "infinity", "memory_swap_max": "infinity"}),
        ({"memory_low": "1G"}, {}, {"memory_low": "0"}),
        ({"cpu_weight": 5}, {}, {"cpu_weight": "100"}),
        ({"cpu_quota": "50%"}, {"cpu_quota": "auto"}, {"cpu_quota": "300%"}),
        ({"tasks_max": 5}, {"tasks_max": 6}, {"tasks_max": "6"}),
        ({"wall_time_max": "1s"}, {"wall_time_max": "1min"}, {"wall_time_max": "1min"}),
        ({"allowed_cpus": "0-3"}, {"allowed_cpus": "1"}, {"allowed_cpus": "1"}),
        (
            {"io_read_iops_max": ["/dev/a 1", "/dev/b 1"]},
            {"io_read_iops_max": ["/dev/b 2", "/dev/c 3"]},
            {"io_read_iops_max": ["/dev/b 2", "/dev/c 3", "/dev/a infinity"]},
        ),
    ],
)
def test_what_a_cgroup_or_a_timer_holds_moves_now(before: dict[str, Any], after: dict[str, Any], apply: dict[str, Any]) -> None:
    assert applied(before, after) == apply


def example(name: str) -> Any:
    return {"devices": "/dev/a 7", "cpus": "0-1", "percent": "50%"}.get(LIMITS[name].unit, "50ms" if name == "cpu_quota_period" else 7)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_either_moves_or_says_why_not(name: str) -> None:
    reload = decide_reload(Policy(), limited(**{name: example(name)}), NONE, FULL)
    if name in CGROUP_FILES or name in TIMERS:
        assert name in reload.apply and not reload.deferred
    else:
        assert not reload.apply and [item.key for item in reload.deferred] == [name] and reload.deferred[0].reason


@pytest.mark.parametrize("name", CGROUP_FILES)
def test_without_the_controller_nothing_moves(name: str) -> None:
    reload = decide_reload(Policy(), limited(**{name: example(name)}), NONE, BARE)
    assert not reload.apply and "is not held by a cgroup here" in reload.deferred[0].reason


def test_what_is_applied_means_for_set_limits_what_the_policy_said() -> None:
    """The texts are read again by the one table of limits."""
    names = [*CGROUP_FILES, *TIMERS]
    after = limited(**{name: example(name) for name in names})
    reload = decide_reload(Policy(), after, NONE, FULL)
    assert Limits(**reload.apply) == resolve_relative(after.limits, FULL)


def test_the_jobs_own_limits_are_never_loosened() -> None:
    assert applied({"memory_max": "1G"}, {"memory_max": "4G"}, memory_max="2G") == {"memory_max": "2G"}
    assert applied({"memory_max": "1G"}, {"memory_max": "4G"}, memory_max="512M") == {}


def test_a_policy_that_excludes_the_jobs_own_limits_changes_nothing() -> None:
    before, after, own = limited(allowed_cpus="0-3"), limited(allowed_cpus="0-1"), Limits(allowed_cpus="2-3")
    with pytest.raises(ConfigError):
        decide_reload(before, after, own, FULL)
    reload = try_reload(before, after, own, FULL)
    assert not reload.apply
    assert [(item.key, item.reason) for item in reload.deferred] == [("allowed_cpus", "0-1 and 2-3 have nothing in common")]


def test_a_sandbox_and_the_permission_to_lapse_are_for_new_jobs() -> None:
    after = Policy(sandbox=Sandbox(level="basic"), best_effort=frozenset({"tasks_max"}))
    assert [item.key for item in decide_reload(Policy(), after, NONE, FULL).deferred] == ["sandbox", "best_effort"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"memory_max": "2G"}, {"memory_max": "1G"}, "reclaimed"),
        ({"tasks_max": 9}, {"tasks_max": 5}, "tasks beyond the new value stay"),
        ({"wall_time_max": 9}, {"wall_time_max": 5}, "ends at once"),
        ({"cpu_time_max": 2}, {"cpu_time_max": 60}, "single process still ends at 5 s"),
    ],
)
def test_what_a_change_may_do_to_the_job_is_said(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    (note,) = decide_reload(limited(**before), limited(**after), NONE, FULL).notes
    assert words in note


def test_within_the_backstop_more_processor_time_needs_no_word() -> None:
    assert decide_reload(limited(cpu_time_max=2), limited(cpu_time_max=5), NONE, FULL).notes == ()


some = st.dictionaries(st.sampled_from(["memory_max", "tasks_max", "wall_time_max", "cpu_weight", "limit_nofile"]), st.integers(1, 9))


@given(some, some, some)
def test_no_change_decides_nothing_and_every_change_is_decided_once(
    before: dict[str, Any], after: dict[str, Any], own: dict[str, Any]
) -> None:
    assert not decide_reload(limited(**before), limited(**before), Limits(**own), FULL)
    reload = decide_reload(limited(**before), limited(**after), Limits(**own), FULL)
    assert not reload.apply.keys() & {item.key for item in reload.deferred}
