# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.hooks`` claims: one order that works, and descriptors that never overwrite each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import FULL_HOST, brief, hosts, relaxed, specs

from supervisor.model.bpf import compile_filter
from supervisor.model.hooks import ALL_SIGNALS, RLIMIT_NAMES, Hook, cpu_mask, make_hooks, stdio_hooks
from supervisor.model.host import Host
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.seccomp import syscall_profile
from supervisor.model.spec import Credentials, JobSpec
from supervisor.model.units import INFINITY

#: The whole order, each stage with those that may be repeated; native/child.c runs whatever it is given.
ORDER = (
    "signals",
    "session",
    "terminal",
    "cgroup",
    "oom_score_adjust",
    "nice",
    "cpu_affinity",
    "rlimit",
    "umask",
    "close_fds",
    "pass_fd",
    "supplementary_groups",
    "group",
    "user",
    "working_directory",
    "no_new_privileges",
    "parent_death_signal",
    "seccomp",
)
rlimit_maps = st.dictionaries(
    st.integers(0, 15),
    st.tuples(st.integers(0, 2**63), st.integers(0, 2**63) | st.just(INFINITY)).map(lambda pair: Rlimit(soft=min(pair), hard=max(pair))),
)


def everything() -> JobSpec:
    """A specification that needs every hook there is."""
    return JobSpec(
        argv=("true",),
        credentials=Credentials(uid=1000, gid=1001, groups=(1, 2)),
        working_directory="/srv",
        umask=0o27,
        nice=5,
        oom_score_adjust=100,
        cpu_affinity=(0, 65),
        controlling_terminal=7,
        pass_fds=(5, 9),
        no_new_privileges=True,
    )


def test_a_filter_comes_last_and_brings_no_new_privileges() -> None:
    """Whatever runs after it would be under it; and the kernel wants the other from an ordinary user."""
    profile = syscall_profile("compute")
    assert profile is not None
    made = compile_filter(profile, "x86_64")
    hooks = make_hooks(JobSpec(argv=("true",)), FULL_HOST, {}, filtered=made)
    assert [hook.stage for hook in hooks][-3:] == ["no_new_privileges", "parent_death_signal", "seccomp"]
    last = hooks[-1]
    assert (last.a, last.b, last.data) == (len(made.named), len(made.closing), made.named + made.closing + made.unnamed)
    assert "compute" in last.text and "denied calls fail" in last.text


@brief
@given(specs(), hosts, rlimit_maps)
def test_hooks_come_in_one_order_for_every_specification(spec: JobSpec, host: Host, rlimits: dict[int, Rlimit]) -> None:
    places = [ORDER.index(hook.stage) for hook in make_hooks(spec, host, rlimits)]
    assert places == sorted(places)


def test_every_hook_of_the_order_is_used() -> None:
    profile = syscall_profile()
    assert profile is not None
    used = [
        hook.stage for hook in make_hooks(everything(), FULL_HOST, {7: Rlimit(soft=1, hard=2)}, filtered=compile_filter(profile, "x86_64"))
    ]
    assert tuple(dict.fromkeys(used)) == ORDER


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ("session", "terminal", "only a session leader can take a terminal"),
        ("cgroup", "oom_score_adjust", "whatever it does is charged to the job, and contained"),
        ("rlimit", "user", "raising a hard limit needs the privilege that the change of user gives up"),
        ("nice", "user", "so does lowering the nice level"),
        ("oom_score_adjust", "user", "so does lowering the score"),
        ("nice", "rlimit", "RLIMIT_NICE must not stand in our own way"),
        ("close_fds", "pass_fd", "exceptions follow the rule"),
        ("supplementary_groups", "user", "afterwards it could not be changed any more"),
        ("group", "user", "afterwards it could not be changed any more"),
        ("user", "working_directory", "a directory the user may not enter is refused"),
        ("user", "no_new_privileges", "it would not stop the change, but nothing is left to gain before"),
        ("user", "parent_death_signal", "a change of user clears the signal"),
    ],
)
def test_order_of_two_hooks(first: str, then: str, why: str) -> None:
    stages = [hook.stage for hook in make_hooks(everything(), FULL_HOST, {7: Rlimit(soft=1, hard=2)})]
    assert stages.index(first) < stages.index(then), why


def test_a_plain_job_takes_few_hooks() -> None:
    stages = [hook.stage for hook in make_hooks(JobSpec(argv=("true",)), FULL_HOST, {})]
    assert stages == ["signals", "cgroup", "close_fds", "parent_death_signal"]


@brief
@given(specs(), hosts, rlimit_maps)
def test_every_hook_fits_the_block_and_says_what_it_does(spec: JobSpec, host: Host, rlimits: dict[int, Rlimit]) -> None:
    for hook in make_hooks(spec, host, rlimits):
        assert hook.text or hook.stage in ("oom_score_adjust", "working_directory")
        assert -(2**31) <= hook.arg < 2**31
        assert all(-(2**63) <= number < 2**63 for number in (hook.a, hook.b))


@relaxed
@given(rlimit_maps)
def test_each_rlimit_is_one_hook_with_the_kernels_numbers(rlimits: dict[int, Rlimit]) -> None:
    hooks = [hook for hook in make_hooks(JobSpec(argv=("true",)), FULL_HOST, rlimits) if hook.stage == "rlimit"]
    assert [hook.arg for hook in hooks] == sorted(rlimits)
    for hook in hooks:
        limit = rlimits[hook.arg]
        raw = [2**64 - 1 if amount == INFINITY else amount for amount in (limit.soft, limit.hard)]
        assert [hook.a % 2**64, hook.b % 2**64] == raw
        assert hook.text == f"RLIMIT_{RLIMIT_NAMES[hook.arg]} {limit}"


@relaxed
@given(st.integers(0, 2**64 - 1))
def test_signals_go_back_to_default_but_for_those_ignored_by_inheritance(ignored: int) -> None:
    """nohup's SIGHUP stays ignored; SIGPIPE (13) and SIGXFSZ (25) are ignored by Python itself, so they do not."""
    signals = make_hooks(JobSpec(argv=("true",)), Host(ignored_signals=ignored), {})[0]
    for number in range(1, 65):
        kept = ignored >> (number - 1) & 1 and number not in (13, 25)
        assert (signals.a % 2**64 >> (number - 1) & 1) == (0 if kept else 1), number
    assert signals.b == 0
    assert signals.a % 2**64 <= ALL_SIGNALS


def test_a_session_of_its_own_is_a_process_group_of_its_own_too() -> None:
    sessions = [
        hook
        for hook in make_hooks(JobSpec(argv=("true",), start_new_session=True, process_group=True), FULL_HOST, {})
        if hook.stage == "session"
    ]
    assert [hook.arg for hook in sessions] == [1]


# standard streams

source_maps = st.dictionaries(st.sampled_from([0, 1, 2]), st.integers(3, 12) | st.sampled_from([0, 1, 2]))


def moved(hooks: tuple[Hook, ...], before: dict[int, str]) -> dict[int, str]:
    """What each descriptor is after the moves, as dup3(2) makes them."""
    table = dict(before)
    for hook in hooks:
        assert hook.stage == "stdio"
        table[hook.arg] = table[hook.a]
    return table


@relaxed
@given(source_maps)
def test_streams_never_overwrite_a_source_that_is_still_needed(sources: dict[int, int]) -> None:
    clobbers = any(source != target and source < 3 for target, source in sources.items())
    if clobbers:
        with pytest.raises(ValueError, match="duplicate it to 3 or above first"):
            stdio_hooks(sources)
        return
    before = {fd: f"file {fd}" for fd in range(13)}
    after = moved(stdio_hooks(sources), before)
    for target in range(3):
        assert after[target] == before[sources.get(target, target)]
    assert {fd: after[fd] for fd in range(3, 13)} == {fd: before[fd] for fd in range(3, 13)}


# processors


@relaxed
@given(st.frozensets(st.integers(0, 8191), min_size=1, max_size=20))
def test_a_processor_mask_has_exactly_the_bits_named_in_whole_words(cpus: frozenset[int]) -> None:
    mask = cpu_mask(tuple(cpus))
    assert {n for n in range(len(mask) * 8) if mask[n // 8] >> n % 8 & 1} == cpus
    assert len(mask) % 8 == 0
    assert any(mask[-8:])
