# SPDX-License-Identifier: Apache-2.0
"""Filters as the kernel would run them say what their profiles mean."""

from __future__ import annotations

import pytest
from bpf_machine import run
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import relaxed

from supervisor.model.bpf import ARCHITECTURES, CLOSING_FLAGS, HANDOVER_FLAGS, LIMIT_NOFILE, ODD_SELF, SyscallFilter, compile_filter
from supervisor.model.seccomp import NEEDED, SyscallProfile, decide, denial_errno, syscall_names, syscall_profile
from supervisor.model.syscall_groups import ABSENT, ALLOW, DENY, PRESETS, Condition, Rule
from supervisor.model.syscalls import MACHINES, syscall_numbers

ALLOWED, KILLED, ASKED, ERRNO = 0x7FFF0000, 0x80000000, 0x7FC00000, 0x00050000
ABSENT_ANSWER = ERRNO | 38
X86 = ARCHITECTURES["x86_64"]
NO_ARGUMENTS = (0,) * 6

words = st.integers(0, (1 << 64) - 1)
machines = st.sampled_from(MACHINES)
names = st.sampled_from(sorted(syscall_numbers("x86_64")))


def interesting(profile: SyscallProfile) -> list[int]:
    """Values that the profile's conditions look for, and what lies beside them."""
    sought = {condition.bits for rule in profile.rules for condition in rule.when}
    masks = {condition.mask for rule in profile.rules for condition in rule.when}
    near = {bits + step for bits in sought for step in (-1, 1)}
    high = {bits | 1 << 32 for bits in sought}
    return sorted(value & (1 << 64) - 1 for value in sought | masks | near | high | {0, (1 << 64) - 1})


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    mask = draw(st.one_of(st.sampled_from([0xFFFFFFFF, (1 << 64) - 1, 0xFFFFFFFF << 32]), words.filter(bool)))
    return Condition(argument=draw(st.integers(0, 5)), mask=mask, bits=draw(words) & mask, differs=draw(st.booleans()))


rules = st.builds(
    lambda calls, action, when, error: Rule(calls=tuple(calls), action=action, when=tuple(when), error=error),
    st.lists(names, min_size=1, max_size=12),
    st.sampled_from([ALLOW, DENY, ABSENT]),
    st.lists(conditions(), max_size=4),
    st.sampled_from([1, 13, 38, 97]),
)
profiles = st.builds(
    lambda made, otherwise, kill: SyscallProfile(name="drawn", rules=tuple(made), otherwise=otherwise, kill=kill),
    st.lists(rules, max_size=12),
    st.sampled_from([ALLOW, DENY]),
    st.booleans(),
)


def preset_profile(name: str) -> SyscallProfile:
    made = syscall_profile(name)
    assert made is not None
    return made


presets = st.sampled_from(sorted(PRESETS)).map(preset_profile)


def handover(name: str, arguments: tuple[int, ...]) -> bool:
    """The calls of ours between the filter and the program."""
    low = [argument & 0xFFFFFFFF for argument in arguments]
    if name == "prlimit64":
        return arguments[0] == ODD_SELF and low[1] == LIMIT_NOFILE
    return (name == "sendmsg" and low[2] == HANDOVER_FLAGS) or (name == "seccomp" and low[:2] == [1, CLOSING_FLAGS])


def expected(profile: SyscallProfile, machine: str, number: int, arguments: tuple[int, ...], *, named: bool) -> int:
    decision = decide(profile, machine, number, arguments)
    if decision == DENY:
        if named:
            return ASKED
        return KILLED if profile.kill else ERRNO | denial_errno(profile, syscall_names(machine)[number])
    return ALLOWED if decision == ALLOW else ABSENT_ANSWER


def assert_same_meaning(profile: SyscallProfile, made: SyscallFilter, number: int, arguments: tuple[int, ...]) -> None:
    machine = made.machine
    architecture = ARCHITECTURES[machine]
    assert run(made.unnamed, number, architecture, arguments)[0] == expected(profile, machine, number, arguments, named=False)
    asked = run(made.named, number, architecture, arguments)[0]
    closed = run(made.closing, number, architecture, arguments)[0] if made.closing else ALLOWED
    if asked == ALLOWED and closed != ALLOWED:  # the stricter of two filters counts
        assert handover(syscall_names(machine)[number], arguments)
        assert decide(profile, machine, number, arguments) != ALLOW and closed == ERRNO | 1
    else:
        assert closed == ALLOWED
        assert asked == expected(profile, machine, number, arguments, named=True)


@relaxed
@given(st.data(), st.one_of(presets, profiles), machines)
def test_a_program_decides_every_call_as_its_profile_does(data: st.DataObject, profile: SyscallProfile, machine: str) -> None:
    """Random profiles and the presets, every machine, known and unknown numbers, arguments at and beside what is looked for."""
    made = compile_filter(profile, machine)
    mentioned = [number for name, number in syscall_numbers(machine).items() if any(name in rule.calls for rule in profile.rules)]
    numbers = st.integers(0, 600) if not mentioned else st.one_of(st.integers(0, 600), st.sampled_from(mentioned))
    values = st.one_of(st.sampled_from(interesting(profile)), words)
    for _ in range(8):
        number = data.draw(numbers)
        arguments = tuple(data.draw(st.lists(values, min_size=6, max_size=6)))
        assert_same_meaning(profile, made, number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_number_of_a_preset_is_decided_as_the_profile_says(preset: str, machine: str) -> None:
    profile = preset_profile(preset)
    made = compile_filter(profile, machine)
    for number in range(600):
        assert_same_meaning(profile, made, number, NO_ARGUMENTS)


@relaxed
@given(presets, st.integers(0, (1 << 32) - 1), st.integers(0, 600), machines)
def test_a_foreign_architecture_is_asked_about_or_killed(profile: SyscallProfile, architecture: int, number: int, machine: str) -> None:
    if architecture == ARCHITECTURES[machine]:
        architecture ^= 1
    made = compile_filter(profile, machine)
    assert run(made.named, number, architecture, NO_ARGUMENTS)[0] == ASKED
    assert run(made.unnamed, number, architecture, NO_ARGUMENTS)[0] == KILLED


@relaxed
@given(presets, st.integers(0, 600))
def test_the_x32_numbers_are_foreign_and_minus_one_is_absent(profile: SyscallProfile, number: int) -> None:
    """On x86_64; syscall(-1) is how programs ask for ENOSYS."""
    made = compile_filter(profile, "x86_64")
    assert run(made.named, number | 0x40000000, X86, NO_ARGUMENTS)[0] == ASKED
    assert run(made.unnamed, number | 0x40000000, X86, NO_ARGUMENTS)[0] == KILLED
    for program in (made.named, made.unnamed):
        assert run(program, 0xFFFFFFFF, X86, NO_ARGUMENTS)[0] == ABSENT_ANSWER


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_starts_the_job_is_allowed_and_programs_are_short(preset: str, machine: str) -> None:
    """By every preset, whatever the arguments; a call takes a few steps."""
    made = compile_filter(preset_profile(preset), machine)
    for name in NEEDED:
        answer, steps = run(made.named, syscall_numbers(machine)[name], ARCHITECTURES[machine], NO_ARGUMENTS)
        assert answer == ALLOWED
        assert steps < 20
    assert len(made.named) // 8 < 400 and len(made.unnamed) // 8 < 400


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_new_namespaces_are_denied_by_any_of_their_flags(preset: str) -> None:
    made = compile_filter(preset_profile(preset), "x86_64")
    clone = syscall_numbers("x86_64")["clone"]
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(made.named, clone, X86, (flag | 17, 0, 0, 0, 0, 0))[0] == ASKED
    assert run(made.named, clone, X86, (0x3D0F00, 0, 0, 0, 0, 0))[0] == ALLOWED  # as pthread_create does
    assert run(made.named, syscall_numbers("x86_64")["clone3"], X86, NO_ARGUMENTS)[0] == ABSENT_ANSWER


def test_a_preset_that_denies_sendmsg_still_hands_the_listener_out_and_then_shuts_the_door() -> None:
    """The filter allows exactly these odd calls, and the second filter denies exactly them."""
    made = compile_filter(preset_profile("compute"), "x86_64")
    numbers = syscall_numbers("x86_64")
    for name, arguments in (("sendmsg", (7, 99, HANDOVER_FLAGS, 0, 0, 0)), ("seccomp", (1, CLOSING_FLAGS, 99, 0, 0, 0))):
        assert run(made.named, numbers[name], X86, arguments)[0] == ALLOWED
        assert run(made.closing, numbers[name], X86, arguments)[0] == ERRNO | 1
        assert run(made.named, numbers[name], X86, NO_ARGUMENTS)[0] == ASKED
        assert run(made.closing, numbers[name], X86, NO_ARGUMENTS)[0] == ALLOWED


def test_a_preset_that_allows_sendmsg_needs_no_second_filter() -> None:
    assert compile_filter(preset_profile("default"), "x86_64").closing == b""
    assert compile_filter(preset_profile("python"), "x86_64").closing == b""


def test_errnos_are_those_of_the_rules() -> None:
    made = compile_filter(preset_profile("default"), "x86_64")
    numbers = syscall_numbers("x86_64")
    found = {name: made.errnos[numbers[name]] for name in ("mount", "io_uring_setup", "io_setup", "socket")}
    assert found == {"mount": 1, "io_uring_setup": 38, "io_setup": 38, "socket": 97}


def test_a_rule_with_more_conditions_than_a_jump_can_pass_is_refused_in_words() -> None:
    for mask, most in (((1 << 64) - 1, 64), ((1 << 64) - 2, 51), ((1 << 32) - 1, 128)):
        many = tuple([Condition(argument=number % 6, mask=mask, bits=0) for number in range(most + 1)])
        profiles = [
            SyscallProfile(name="drawn", rules=(Rule(calls=("ioctl",), action=DENY, when=when),), otherwise=ALLOW)
            for when in (many[:most], many)
        ]
        compile_filter(profiles[0], "x86_64")
        with pytest.raises(ValueError, match=r"a rule with too many conditions: .*; make it several rules"):
            compile_filter(profiles[1], "x86_64")
