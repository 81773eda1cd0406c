# SPDX-License-Identifier: Apache-2.0
"""What a changed policy means for a running job: what moves now, what waits for a new job, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import JobSpec, Limits, Policy, Sandbox
from supervisor.control.reload import TIMERS, Reload, Running, decide_reload
from supervisor.model.enforce import CGROUP_FILES
from supervisor.model.host import CONTROLLERS, CgroupFacts, Host
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import show_limit, tighten
from supervisor.model.plan import make_environment, make_plan
from supervisor.model.relative import resolve_relative
from supervisor.model.spec import COLLECT
from supervisor.model.value import replace

FULL = Host(
    cgroup=CgroupFacts(source="root", path="/", controllers=frozenset(CONTROLLERS)),
    memory_total_bytes=1 << 34,
    processors=4,
    block_devices={f"/dev/{letter}": f"8:{n}" for n, letter in enumerate("abc")},
)
BARE = replace(FULL, cgroup=None)
WEAK = replace(FULL, capable_resource=False, hard_rlimits={7: 4096})


def running(policy: Policy, host: Host = FULL, **own: Any) -> Running:
    """A job that was started under the policy on the host, its output collected."""
    mine = Limits(**own)
    spec = JobSpec(argv=("true",), limits=tighten(policy.limits, mine), best_effort=policy.best_effort, stdout=COLLECT)
    return Running(spec=spec, plan=make_plan(spec, host, make_environment({})), host=host, policy=policy, own=mine)


def limited(**limits: Any) -> Policy:
    return Policy(limits=Limits(**limits))


def shown(reload: Reload) -> dict[str, str]:
    return {name: show_limit(name, amount) for name, amount in reload.apply.given().items()}


def applied(before: dict[str, Any], after: dict[str, Any], host: Host = FULL, **own: Any) -> dict[str, Any]:
    return shown(decide_reload(running(limited(**before), host, **own), limited(**after)))


def deferred(reload: Reload) -> dict[str, str]:
    return {item.key: item.reason for item in reload.deferred}


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
        ({"limit_nofile": 64}, {"limit_nofile": "32:128"}, {"limit_nofile": "32:128"}),
        ({"output_max": "1M"}, {}, {"output_max": "infinity"}),
        ({}, {"output_max": "infinity", "cpu_weight": 100}, {"output_max": "infinity", "cpu_weight": "100"}),
        (
            {"io_read_iops_max": ["/dev/a 1", "/dev/b 1"]},
            {"io_read_iops_max": ["/dev/b 2", "/dev/c 3"]},
            {"io_read_iops_max": "/dev/b 2, /dev/c 3, /dev/a infinity"},
        ),
    ],
)
def test_what_a_cgroup_or_a_timer_holds_moves_now(before: dict[str, Any], after: dict[str, Any], apply: dict[str, Any]) -> None:
    assert applied(before, after) == apply


def example(name: str) -> Any:
    return {"devices": "/dev/a 7", "cpus": "0-1", "percent": "50%"}.get(LIMITS[name].unit, "50ms" if name == "cpu_quota_period" else 7)


FIXED_AT_THE_START = ("disk_max", "allowed_cpus", "allowed_memory_nodes")


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_either_moves_or_says_why_not(name: str) -> None:
    reload = decide_reload(running(Policy()), limited(**{name: example(name)}))
    if name in FIXED_AT_THE_START:
        assert not reload.apply.given() and deferred(reload).keys() == {name} and deferred(reload)[name]
    else:
        assert name in reload.apply.given() and not reload.deferred


@pytest.mark.parametrize("name", CGROUP_FILES)
def test_without_the_controller_nothing_moves(name: str) -> None:
    reload = decide_reload(running(Policy(), BARE), limited(**{name: example(name)}))
    assert not reload.apply.given() and deferred(reload)[name]


def test_what_lapsed_at_the_start_still_does() -> None:
    before, after = (Policy(limits=Limits(cpu_weight=n), best_effort=frozenset({"cpu_weight"})) for n in (5, 6))
    assert deferred(decide_reload(running(before, BARE), after)) == {"cpu_weight": "is not enforced on this host (best effort)"}


def test_what_is_applied_is_what_the_policy_says() -> None:
    names = [name for name in (*CGROUP_FILES, *TIMERS) if name not in FIXED_AT_THE_START]
    after = limited(**{name: example(name) for name in names})
    assert decide_reload(running(Policy()), after).apply == resolve_relative(after.limits, FULL)


def test_the_jobs_own_limits_are_never_loosened() -> None:
    assert applied({"memory_max": "1G"}, {"memory_max": "4G"}, memory_max="2G") == {"memory_max": "2G"}
    assert applied({"memory_max": "1G"}, {"memory_max": "4G"}, memory_max="512M") == {}


def test_a_policy_that_excludes_the_jobs_own_limits_changes_nothing() -> None:
    job = running(limited(allowed_cpus="0-3"), allowed_cpus="2-3")
    reload = decide_reload(job, limited(allowed_cpus="0-1", tasks_max=5))
    assert not reload.apply.given()
    assert deferred(reload) == {"allowed_cpus": "0-1 and 2-3 have nothing in common"}


@pytest.mark.parametrize("name", ["limit_nofile", "allowed_cpus"])
def test_what_a_job_would_have_inherited_is_not_guessed(name: str) -> None:
    assert "cannot be lifted" in deferred(decide_reload(running(limited(**{name: example(name)})), Policy()))[name]


@pytest.mark.parametrize(("before", "after"), [({"limit_nofile": 64}, {"limit_nofile": 128}), ({"cpu_time_max": 1}, {"cpu_time_max": 60})])
def test_without_the_capability_no_hard_rlimit_is_raised(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The backstop of cpu_time_max is one, too. What else changes is not kept back."""
    reload = decide_reload(running(limited(**before), WEAK), limited(**after, tasks_max=5))
    assert shown(reload) == {"tasks_max": "5"}
    assert "needs CAP_SYS_RESOURCE" in deferred(reload)[next(iter(after))]
    assert applied(after, before, WEAK)  # down is always allowed


def test_a_sandbox_and_the_permission_to_lapse_are_for_new_jobs() -> None:
    after = Policy(sandbox=Sandbox(level="basic"), best_effort=frozenset({"tasks_max"}))
    assert list(deferred(decide_reload(running(Policy()), after))) == ["sandbox", "best_effort"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"memory_max": "2G"}, {"memory_max": "1G"}, "reclaimed"),
        ({"tasks_max": 9}, {"tasks_max": 5}, "tasks beyond the new value stay"),
        ({"wall_time_max": 9}, {"wall_time_max": 5}, "ends at once"),
        ({}, {"output_max": 9}, "ends at once"),
    ],
)
def test_what_a_change_may_do_to_the_job_is_said(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    (note,) = decide_reload(running(limited(**before)), limited(**after)).notes
    assert words in note


some = st.dictionaries(st.sampled_from(["memory_max", "tasks_max", "wall_time_max", "cpu_weight", "limit_nofile"]), st.integers(1, 9))


@given(some, some, some)
def test_no_change_decides_nothing_and_every_change_is_decided_once(
    before: dict[str, Any], after: dict[str, Any], own: dict[str, Any]
) -> None:
    job = running(limited(**before), **own)
    assert not decide_reload(job, limited(**before))
    reload = decide_reload(job, limited(**after))
    assert not reload.apply.given().keys() & deferred(reload).keys()
