# SPDX-License-Identifier: Apache-2.0
"""Which failures are tried again, and with which limits."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_strategies import endings, relaxed, service

from supervisor.control.recovery import DEFER, GIVE_UP, GROW, RETRY, find_remedy, grow_memory
from supervisor.model.limits import Limits
from supervisor.model.outcome import Exit, Outcome, StartError, Verdict
from supervisor.model.service import Recovery
from supervisor.model.service_state import Ending, ServiceResult

M = 1 << 20


def failed(stage: str, number: int, limits_hit: tuple[str, ...] = ()) -> Ending:
    error = StartError(stage=stage, errno=number, message="why")
    outcome = Outcome(verdict=Verdict.START_FAILED, error=error, limits_hit=limits_hit)
    return Ending(result=ServiceResult.RESOURCES, outcome=outcome)


OUT_OF_MEMORY = Ending(result=ServiceResult.OOM_KILL, outcome=Outcome(verdict=Verdict.MEMORY_LIMIT, exit=Exit(signal=9)))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ETXTBSY])
@pytest.mark.parametrize("stage", ["clone", "cgroup_create", "exec", ""])
def test_passing_conditions_of_the_host_are_tried_again_so_often(stage: str, number: int) -> None:
    """The first start and three more, and not a fifth."""
    spec = service(recovery=Recovery(start_retries=3))
    actions = [find_remedy(spec, failed(stage, number), Limits(), before).action for before in range(5)]
    assert actions == [RETRY, RETRY, RETRY, GIVE_UP, GIVE_UP]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG, errno.ENOTDIR, errno.EINVAL])
def test_what_would_fail_again_is_given_up_at_once_even_under_restart_always(number: int) -> None:
    assert find_remedy(service(restart="always"), failed("exec", number), Limits(), 0).action == GIVE_UP


def test_a_program_that_its_own_limits_leave_no_room_for_is_not_tried_again() -> None:
    """The same errno as a host without memory, and another cause."""
    assert find_remedy(service(), failed("exec", errno.ENOMEM), Limits(), 0).action == RETRY
    assert find_remedy(service(), failed("exec", errno.ENOMEM, ("memory_max",)), Limits(), 0).action == GIVE_UP


def test_our_own_failure_before_there_is_a_job_counts_by_its_errno() -> None:
    """No descriptors left for a pipe; a configuration that this host cannot enforce."""
    passing = Ending(result=ServiceResult.RESOURCES, error_number=errno.EMFILE)
    lasting = Ending(result=ServiceResult.RESOURCES, message="memory_max cannot be enforced here")
    assert find_remedy(service(), passing, Limits(), 0).action == RETRY
    assert find_remedy(service(), lasting, Limits(), 0).action == GIVE_UP


@given(
    limit=st.integers(1, 1 << 50),
    factor=st.floats(1.01, 1000),
    ceiling=st.integers(1, 1 << 50),
)
@relaxed
def test_memory_grows_by_the_factor_up_to_the_ceiling_and_ends_there(limit: int, factor: float, ceiling: int) -> None:
    """Never above the ceiling, never smaller than it was, and after finitely many runs no more."""
    recovery = Recovery(memory_factor=factor, memory_ceiling=ceiling)
    limits = Limits(memory_max=limit, memory_high=limit // 2, tasks_max=7)
    turns = 0
    while (grown := grow_memory(recovery, limits)) is not None:
        for name in ("memory_max", "memory_high"):
            old, new = getattr(limits, name), getattr(grown, name)
            assert old <= new <= max(old, ceiling)
        assert (grown.memory_max, grown.memory_high) != (limits.memory_max, limits.memory_high)
        assert grown.tasks_max == 7
        limits = grown
        turns += 1
        assert turns < 20_000
    assert limits.memory_max >= min(ceiling, limit) or int(limits.memory_max * factor) == limits.memory_max


def test_a_broken_memory_limit_grows_only_when_the_policy_allows() -> None:
    """Not by default, not with restart_on_limit=False; with a factor also under restart=no."""
    limits = Limits(memory_max=64 * M)
    growing = Recovery(memory_factor=2, memory_ceiling="100M")
    assert find_remedy(service(), OUT_OF_MEMORY, limits, 0).action == DEFER
    assert find_remedy(service(recovery=growing, restart_on_limit=False), OUT_OF_MEMORY, limits, 0).action == DEFER
    remedy = find_remedy(service(recovery=growing), OUT_OF_MEMORY, limits, 0)
    assert remedy.action == GROW and remedy.limits is not None and remedy.limits.memory_max == 100 * M
    assert find_remedy(service(recovery=growing), OUT_OF_MEMORY, remedy.limits, 0).action == DEFER


@given(endings, st.integers(0, 9))
@relaxed
def test_everything_else_is_left_to_the_restart_policy(ending: Ending, before: int) -> None:
    start_failed = ending.result == ServiceResult.RESOURCES and (ending.outcome is None or ending.outcome.verdict == Verdict.START_FAILED)
    if not start_failed:
        assert find_remedy(service(), ending, Limits(memory_max=1), before).action == DEFER
