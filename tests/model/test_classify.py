# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.classify`` claims: the rules of section 3.2 of the contract, one test each, and a verdict for any evidence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import relaxed, spellings

from supervisor.model.classify import RLIMIT_CPU_SEEN, SIGKILL, SIGSYS, SIGXCPU, SIGXFSZ, VERDICT_OF, Evidence, Finding, classify, is_clean
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.outcome import Exit, Usage, Verdict
from supervisor.model.value import replace

S = 10**9
DONE = Exit(code=0)
KILLED = Exit(signal=SIGKILL)


def found(exit: Exit = DONE, limits: Limits | None = None, **evidence: Any) -> Finding:
    """The finding; every limit that is given is enforced."""
    limits = limits or Limits()
    return classify(Evidence(exit=exit, limits=limits, enforced=frozenset(limits.given()), **evidence))


exits = (
    st.integers(0, 255).map(lambda code: Exit(code=code))
    | st.builds(
        lambda signal, core: Exit(signal=signal, core=core),
        st.integers(1, 64) | st.sampled_from([SIGKILL, SIGXCPU, SIGXFSZ, SIGSYS]),
        st.booleans(),
    )
    | st.just(Exit())
)
JUDGED = ("cpu_time_max", "wall_time_max", "output_max", "tasks_max", "limit_cpu", "limit_fsize", "memory_max")
amounts = st.none() | st.integers(0, 10**12)
counters = st.none() | st.integers(0, 3)
usages = st.builds(
    lambda cpu, wall, paused, out, err: Usage(cpu_ns=cpu, wall_ns=wall, paused_ns=paused, stdout_bytes=out, stderr_bytes=err),
    amounts,
    amounts,
    st.integers(0, 10**10),
    amounts,
    amounts,
)
evidences = st.builds(
    lambda exit, causes, limits, usage, kills, local, denied, cpu, filtered, enforced, unreaped: Evidence(
        exit=exit,
        causes=tuple(causes),
        limits=limits,
        usage=usage,
        oom_kills=kills,
        oom_local=local,
        tasks_denied=denied,
        main_cpu_ns=cpu,
        syscall_filter=filtered,
        enforced=enforced,
        unreaped=unreaped,
    ),
    exits,
    st.lists(st.sampled_from([*VERDICT_OF, "watchdog"]), max_size=3),
    spellings(JUDGED).map(lambda given: Limits(**given)),
    usages,
    counters,
    counters,
    counters,
    st.integers(0, 10**12),
    st.booleans(),
    st.frozensets(st.sampled_from(JUDGED)),
    st.booleans(),
)


# for any evidence


@relaxed
@given(evidences)
def test_every_evidence_has_one_of_the_verdicts(evidence: Evidence) -> None:
    finding = classify(evidence)
    assert finding.verdict in Verdict.ALL
    assert len(set(finding.limits_hit)) == len(finding.limits_hit)
    assert set(finding.limits_hit) <= {*LIMITS, "syscalls"}


@relaxed
@given(evidences)
def test_a_job_of_which_a_child_was_killed_for_memory_is_never_ok(evidence: Evidence) -> None:
    assert not evidence.oom_kills or classify(evidence).verdict not in (Verdict.OK, Verdict.NONZERO_EXIT, Verdict.SIGNALED)


@relaxed
@given(evidences)
def test_a_limits_verdict_is_explained_by_the_first_limit_hit(evidence: Evidence) -> None:
    finding = classify(evidence)
    if finding.verdict in Verdict.LIMITS - {Verdict.SYSCALL_DENIED}:
        assert VERDICT_OF[finding.limits_hit[0]] == finding.verdict


@relaxed
@given(evidences)
def test_ok_means_exit_0_and_no_limit_hit_but_forks_refused_that_the_job_got_over(evidence: Evidence) -> None:
    finding = classify(evidence)
    if finding.verdict == Verdict.OK:
        assert evidence.exit == DONE
        assert set(finding.limits_hit) <= {"tasks_max"}
        assert not finding.killed


@relaxed
@given(exits)
def test_without_evidence_an_end_is_only_an_end(end: Exit) -> None:
    """No signal and no exit code is proof of a limit, whatever limits there were."""
    limits = Limits(
        cpu_time_max=10, wall_time_max=10, memory_max="1G", tasks_max=9, output_max=9, limit_cpu=10, disk_max=9, idle_time_max=5
    )
    expected = Verdict.OK if end == DONE else Verdict.NONZERO_EXIT if end.signal is None else Verdict.SIGNALED
    assert found(end, limits) == Finding(verdict=expected, limits_hit=(), killed=False)


# who was first


@pytest.mark.parametrize(("cause", "verdict"), list(VERDICT_OF.items()))
def test_a_cause_that_was_noted_is_the_verdict(cause: str, verdict: str) -> None:
    hit = () if cause == "cancelled" else (cause,)
    assert found(KILLED, causes=(cause,)) == Finding(verdict=verdict, limits_hit=hit, killed=True)


def test_the_first_cause_wins_and_the_rest_are_limits_hit() -> None:
    finding = found(KILLED, causes=("output_max", "wall_time_max", "output_max"))
    assert finding == Finding(verdict=Verdict.OUTPUT_LIMIT, limits_hit=("output_max", "wall_time_max"), killed=True)


def test_a_cancelled_job_that_then_ran_into_a_limit_was_cancelled() -> None:
    finding = found(KILLED, causes=("cancelled", "wall_time_max"))
    assert finding == Finding(verdict=Verdict.CANCELLED, limits_hit=("wall_time_max",), killed=True)


@pytest.mark.parametrize(("kills", "killed"), [(0, False), (1, True)])
def test_a_limit_that_was_noted_when_the_job_had_ended_by_itself_has_killed_nobody(kills: int, killed: bool) -> None:
    """Unless the kernel had: a child, by the limit of memory."""
    finding = found(DONE, causes=("output_max",), by_itself=True, oom_kills=kills, oom_local=kills)
    assert (finding.verdict, finding.killed) == (Verdict.OUTPUT_LIMIT, killed)


def test_a_job_that_ended_well_after_it_was_asked_to_stop_was_still_cancelled() -> None:
    assert found(DONE, causes=("cancelled",)) == Finding(verdict=Verdict.CANCELLED, limits_hit=(), killed=True)


def test_what_the_kernel_did_meanwhile_is_kept_beside_the_first_cause() -> None:
    finding = found(KILLED, causes=("wall_time_max",), oom_kills=1, oom_local=1)
    assert finding == Finding(verdict=Verdict.WALL_LIMIT, limits_hit=("wall_time_max", "memory_max"), killed=True)


# memory


def test_an_oom_kill_with_an_oom_at_the_jobs_own_limit_is_its_memory_limit() -> None:
    finding = found(KILLED, oom_kills=1, oom_local=1)
    assert finding == Finding(verdict=Verdict.MEMORY_LIMIT, limits_hit=("memory_max",), killed=True)


@pytest.mark.parametrize("local", [0, None])
def test_an_oom_kill_without_one_is_the_hosts(local: int | None) -> None:
    assert found(KILLED, oom_kills=1, oom_local=local) == Finding(verdict=Verdict.HOST_OOM, limits_hit=(), killed=True)


def test_an_oom_killed_child_is_never_ok_although_the_main_process_exits_0() -> None:
    assert found(DONE, oom_kills=1, oom_local=1).verdict == Verdict.MEMORY_LIMIT
    assert found(DONE, oom_kills=1, oom_local=0).verdict == Verdict.HOST_OOM


def test_reaching_the_memory_limit_without_a_kill_is_no_verdict() -> None:
    assert found(DONE, oom_kills=0, oom_local=3).verdict == Verdict.OK


def test_sigkill_alone_is_a_signal() -> None:
    assert found(KILLED, Limits(memory_max="64M"), oom_kills=0, oom_local=0) == Finding(
        verdict=Verdict.SIGNALED, limits_hit=(), killed=False
    )


# exit codes of the job's own


@pytest.mark.parametrize("code", [1, 124, 125, 126, 127, 137, 143, 255])
def test_an_exit_code_is_only_an_exit_code(code: int) -> None:
    limits = Limits(wall_time_max=10, memory_max="64M")
    assert found(Exit(code=code), limits) == Finding(verdict=Verdict.NONZERO_EXIT, limits_hit=(), killed=False)


@pytest.mark.parametrize("signal", [1, 2, SIGKILL, 11, 15, SIGXCPU, SIGXFSZ, SIGSYS])
def test_a_signal_is_only_a_signal(signal: int) -> None:
    assert found(Exit(signal=signal)) == Finding(verdict=Verdict.SIGNALED, limits_hit=(), killed=False)


# usage above a limit although nobody acted


@pytest.mark.parametrize(
    ("limits", "usage", "verdict", "hit"),
    [
        (Limits(cpu_time_max=1), Usage(cpu_ns=S + 1), Verdict.CPU_LIMIT, "cpu_time_max"),
        (Limits(wall_time_max=1), Usage(wall_ns=S + 1), Verdict.WALL_LIMIT, "wall_time_max"),
        (Limits(wall_time_max=1), Usage(wall_ns=3 * S + 1, paused_ns=2 * S), Verdict.WALL_LIMIT, "wall_time_max"),
        (Limits(output_max=10), Usage(stdout_bytes=6, stderr_bytes=5), Verdict.OUTPUT_LIMIT, "output_max"),
        (Limits(output_max=10), Usage(stdout_bytes=11), Verdict.OUTPUT_LIMIT, "output_max"),
        (Limits(memory_max="64M"), Usage(memory_peak_bytes=(68 << 20) + 1), Verdict.MEMORY_LIMIT, "memory_max"),
        (Limits(tasks_max=5), Usage(tasks_peak=6), Verdict.TASKS_LIMIT, "tasks_max"),
    ],
)
@pytest.mark.parametrize("end", [DONE, Exit(code=3), Exit(signal=6)])
def test_usage_above_a_limit_gives_its_verdict_and_nobody_was_killed(
    limits: Limits, usage: Usage, verdict: str, hit: str, end: Exit
) -> None:
    assert found(end, limits, usage=usage) == Finding(verdict=verdict, limits_hit=(hit,), killed=False)


@pytest.mark.parametrize(
    ("limits", "usage"),
    [
        (Limits(cpu_time_max=1), Usage(cpu_ns=S)),
        (Limits(wall_time_max=1), Usage(wall_ns=S)),
        (Limits(wall_time_max=1), Usage(wall_ns=3 * S, paused_ns=2 * S)),
        (Limits(output_max=10), Usage(stdout_bytes=5, stderr_bytes=5)),
        (Limits(memory_max="64M"), Usage(memory_peak_bytes=68 << 20)),  # the kernel charges in batches
        (Limits(tasks_max=5), Usage(tasks_peak=5)),
        (Limits(cpu_time_max="infinity", wall_time_max="infinity", output_max="infinity"), Usage(cpu_ns=S, wall_ns=S, stdout_bytes=S)),
        (Limits(cpu_time_max=1, wall_time_max=1, output_max=1), Usage()),
    ],
)
def test_usage_up_to_a_limit_or_unknown_is_ok(limits: Limits, usage: Usage) -> None:
    assert found(DONE, limits, usage=usage).verdict == Verdict.OK


def test_a_limit_that_nobody_enforced_is_not_judged() -> None:
    evidence = Evidence(exit=DONE, limits=Limits(cpu_time_max=1), usage=Usage(cpu_ns=9 * S), enforced=frozenset())
    assert classify(evidence).verdict == Verdict.OK


def test_a_host_out_of_memory_comes_before_usage_above_a_limit() -> None:
    finding = found(KILLED, Limits(wall_time_max=1), usage=Usage(wall_ns=2 * S), oom_kills=1, oom_local=0)
    assert finding == Finding(verdict=Verdict.HOST_OOM, limits_hit=("wall_time_max",), killed=True)


@pytest.mark.parametrize(
    ("ended", "noticed", "enforced"),
    [
        (None, False, frozenset()),
        (Exit(), False, frozenset()),
        (Exit(code=1), False, frozenset()),
        (Exit(signal=9), False, frozenset()),
        (DONE, True, frozenset()),
        (DONE, False, frozenset({"limit_nofile", "wall_time_max"})),
    ],
)
def test_an_end_that_evidence_may_speak_against_is_not_taken_for_a_clean_one(
    ended: Exit | None, noticed: bool, enforced: frozenset[str]
) -> None:
    assert is_clean(DONE, False, frozenset({"limit_nofile"}))
    assert not is_clean(ended, noticed, enforced)


# signals of the kernel that need evidence


@pytest.mark.parametrize(("signal", "seconds"), [(SIGXCPU, 2), (SIGKILL, 5)])
def test_rlimit_cpu_is_the_cause_when_the_process_spent_it(signal: int, seconds: int) -> None:
    limits = Limits(limit_cpu="2:5")
    spent = found(Exit(signal=signal), limits, main_cpu_ns=seconds * S)
    assert spent == Finding(verdict=Verdict.CPU_LIMIT, limits_hit=("limit_cpu",), killed=True)
    ahead = found(Exit(signal=signal), limits, main_cpu_ns=int(seconds * S * RLIMIT_CPU_SEEN))
    assert ahead == spent  # the kernel's own count of ticks ran ahead of the time used
    assert found(Exit(signal=signal), limits, main_cpu_ns=int(seconds * S * RLIMIT_CPU_SEEN) - S // 10).verdict == Verdict.SIGNALED


def test_the_backstop_of_cpu_time_max_is_the_cause_when_the_process_spent_it() -> None:
    limits = Limits(cpu_time_max=2)
    spent = found(Exit(signal=SIGXCPU), limits, main_cpu_ns=3 * S)
    assert spent == Finding(verdict=Verdict.CPU_LIMIT, limits_hit=("cpu_time_max",), killed=True)
    assert found(Exit(signal=SIGXCPU), limits, main_cpu_ns=S).verdict == Verdict.SIGNALED


@pytest.mark.parametrize("limits", [Limits(), Limits(limit_cpu="infinity"), Limits(cpu_time_max="infinity")])
def test_sigxcpu_without_a_limit_on_processor_time_is_only_a_signal(limits: Limits) -> None:
    assert found(Exit(signal=SIGXCPU), limits, main_cpu_ns=99 * S).verdict == Verdict.SIGNALED


def test_sigxfsz_under_a_limit_on_file_size_is_that_limit() -> None:
    finding = found(Exit(signal=SIGXFSZ), Limits(limit_fsize="1M"))
    assert finding == Finding(verdict=Verdict.FILE_SIZE_LIMIT, limits_hit=("limit_fsize",), killed=True)


@pytest.mark.parametrize("limits", [Limits(), Limits(limit_fsize="infinity")])
def test_sigxfsz_without_one_is_only_a_signal(limits: Limits) -> None:
    assert found(Exit(signal=SIGXFSZ), limits) == Finding(verdict=Verdict.SIGNALED, limits_hit=(), killed=False)


def test_sigsys_under_a_filter_is_a_denied_call_and_without_one_only_a_signal() -> None:
    assert found(Exit(signal=SIGSYS), syscall_filter=True).verdict == Verdict.SYSCALL_DENIED
    assert found(Exit(signal=SIGSYS)).verdict == Verdict.SIGNALED
    assert found(DONE, syscall_filter=True).verdict == Verdict.OK


# refused forks


@pytest.mark.parametrize("end", [Exit(code=1), Exit(signal=6)])
def test_a_job_that_failed_after_its_forks_were_refused_hit_its_tasks_limit(end: Exit) -> None:
    finding = found(end, Limits(tasks_max=5), tasks_denied=3)
    assert finding == Finding(verdict=Verdict.TASKS_LIMIT, limits_hit=("tasks_max",), killed=False)


def test_a_job_that_got_over_refused_forks_is_ok_and_says_so() -> None:
    assert found(DONE, Limits(tasks_max=5), tasks_denied=3) == Finding(verdict=Verdict.OK, limits_hit=("tasks_max",), killed=False)


@pytest.mark.parametrize("limits", [Limits(), Limits(tasks_max="infinity")])
def test_forks_that_somebody_elses_limit_refused_are_not_the_jobs_limit(limits: Limits) -> None:
    """Before Linux 6.11 pids.events counts a refusal at the job although an ancestor's pids.max was the reason."""
    assert found(Exit(code=1), limits, tasks_denied=3) == Finding(verdict=Verdict.NONZERO_EXIT, limits_hit=(), killed=False)


def test_a_full_file_system_explains_a_failure_and_never_a_success() -> None:
    hit = ("disk_max",)
    assert found(Exit(code=1), disk_full=True) == Finding(verdict=Verdict.DISK_LIMIT, limits_hit=hit, killed=False)
    assert found(Exit(signal=7), disk_full=True) == Finding(verdict=Verdict.DISK_LIMIT, limits_hit=hit, killed=False)
    assert found(DONE, disk_full=True) == Finding(verdict=Verdict.OK, limits_hit=hit, killed=False)
    assert found(Exit(signal=9), causes=("wall_time_max",), disk_full=True).limits_hit == ("wall_time_max", "disk_max")


# our own failures


@relaxed
@given(evidences)
def test_a_tree_that_could_not_be_ended_is_our_failure(evidence: Evidence) -> None:
    finding = classify(replace(evidence, unreaped=True))
    assert (finding.verdict, finding.killed) == (Verdict.SANDBOX_ERROR, True)


def test_a_note_that_is_no_cause_changes_nothing() -> None:
    assert found(DONE, causes=("watchdog",)).verdict == Verdict.OK
