# SPDX-License-Identifier: Apache-2.0
"""Profiles of system calls: presets, changes by name, and what is wrong with them."""

from __future__ import annotations

import pytest

from supervisor.errors import ConfigError
from supervisor.model.seccomp import SyscallProfile, decide, syscall_profile
from supervisor.model.syscall_groups import ABSENT, ALLOW, ALLOWED, CHECKS, DENIED, DENY, GROUPS, PRESETS
from supervisor.model.syscalls import MACHINES, syscall_numbers

NONE = (0,) * 6
X86 = syscall_numbers("x86_64")
EVERY_NAME = {name for machine in MACHINES for name in syscall_numbers(machine)}


def decided(profile: SyscallProfile | None, name: str, *arguments: int) -> str:
    assert profile is not None
    return decide(profile, "x86_64", X86[name], (*arguments, *NONE)[:6])


def test_the_tables_know_the_numbers_of_the_manual() -> None:
    assert (X86["read"], X86["execve"], X86["io_uring_setup"], X86["clone3"]) == (0, 59, 425, 435)
    arm = syscall_numbers("aarch64")
    assert (arm["read"], arm["execve"], arm["io_uring_setup"], arm["clone3"]) == (63, 221, 425, 435)
    assert "open" not in arm


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_groups_name_real_calls_once_and_say_why(group: str) -> None:
    made = GROUPS[group]
    assert made.reason and len(set(made.calls)) == len(made.calls)
    assert set(made.calls) <= EVERY_NAME


def test_no_call_is_in_two_allowed_groups_or_both_allowed_and_denied() -> None:
    calls = [name for group in (*ALLOWED.values(), *DENIED.values()) for name in group.calls]
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_conditions_look_only_at_bits_they_can_see(preset: str) -> None:
    for rule in PRESETS[preset].rules:
        for condition in rule.when:
            assert condition.mask and condition.bits & ~condition.mask == 0 and 0 <= condition.argument < 6


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_denies_what_reaches_past_the_sandbox(preset: str) -> None:
    """The issue's list, whatever the preset."""
    profile = syscall_profile(preset)
    for name in (
        "keyctl add_key request_key io_setup io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd ptrace "
        "process_vm_readv process_vm_writev mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree "
        "mount_setattr unshare setns kexec_load kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct "
        "quotactl quotactl_fd open_by_handle_at clock_settime settimeofday clock_adjtime iopl ioperm sethostname syslog"
    ).split():
        assert decided(profile, name) == DENY, name
    assert decided(profile, "clone3") == ABSENT
    assert decided(profile, "ioctl", 0, 0x5412) == decided(profile, "ioctl", 0, 0xFFFFFFFF00005412) == DENY  # the kernel sees 32 bits
    assert decided(profile, "ioctl", 0, 0x541C) == DENY
    assert decided(profile, "ioctl", 0, 0x5413) == ALLOW
    for call in ("setxattr", "lsetxattr", "fsetxattr"):
        assert decided(profile, call, 0, 0, 0, 1024) == decided(profile, call, 0, 0, 0, 1 << 32) == DENY
    assert decided(profile, "setxattrat") == ABSENT
    for option in (14, 32, 38):
        assert decided(profile, "setsockopt", 3, 6, option) == DENY
    for family in (40, 38, 17, 44, 29):
        assert decided(profile, "socket", family) == DENY


def test_the_default_lets_the_rest_happen() -> None:
    profile = syscall_profile()
    for name in ("openat", "fork", "execveat", "socketpair", "seccomp", "landlock_create_ruleset", "flock", "mbind"):
        assert decided(profile, name) == ALLOW, name
    for family in (1, 2, 10, 16):
        assert decided(profile, "socket", family) == ALLOW
    assert decided(profile, "socket", 16, 3, 9) == DENY  # netlink of the audit
    assert decided(profile, "personality", 0xFFFFFFFF) == decided(profile, "personality", 0x40000) == ALLOW
    assert decided(profile, "personality", 0x400000) == DENY
    assert decided(profile, "setsockopt", 3, 6, 1) == decided(profile, "setsockopt", 3, 1, 14) == ALLOW
    assert decided(profile, "setxattr", 0, 0, 0, 0) == decided(profile, "setxattr", 0, 0, 0, 1023) == ALLOW


def test_an_unknown_number_is_absent_in_every_preset() -> None:
    for preset in PRESETS:
        profile = syscall_profile(preset)
        assert profile is not None
        assert decide(profile, "x86_64", 400, NONE) == decide(profile, "x86_64", 2000, NONE) == ABSENT


def test_presets_grow_from_compute_to_network() -> None:
    allowed = {
        preset: {name for name in X86 if decided(syscall_profile(preset), name) == ALLOW} for preset in ("compute", "python", "network")
    }
    assert allowed["compute"] < allowed["python"]
    assert {"connect", "bind", "listen", "accept4"} <= allowed["network"] - allowed["python"]
    assert not {"fork", "vfork", "socketpair", "kill"} & allowed["compute"]
    assert decided(syscall_profile("compute"), "clone", 17) == DENY  # as fork() of the C library does
    assert decided(syscall_profile("compute"), "clone", 0x3D0F00) == ALLOW  # as pthread_create does


def test_names_and_groups_change_a_preset_and_denying_wins() -> None:
    profile = syscall_profile("default", allow=["ptrace", "@keyring"], deny=["flock", "ptrace"])
    assert decided(profile, "keyctl") == ALLOW
    assert decided(profile, "ptrace") == decided(profile, "flock") == DENY
    assert decided(syscall_profile("compute", allow=["@sockets"]), "socket", 40) == ALLOW  # named by the caller, so unchecked
    assert decided(syscall_profile("none", deny=["@locks"]), "flock") == DENY


def test_none_denies_nothing_and_is_no_filter() -> None:
    assert syscall_profile("none") is None


def test_every_wrong_name_is_told_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError) as caught:
        syscall_profile("defualt", allow=["ptrase", "@keyrings"], deny=["execve", "getppidd"])
    assert str(caught.value).splitlines() == [
        "syscalls: 'defualt' is not a preset; did you mean 'default'?",
        "syscalls_deny: 'getppidd' is not a system call; did you mean 'getppid'?",
        "syscalls_allow: 'ptrase' is not a system call; did you mean 'ptrace'?",
        "syscalls_allow: '@keyrings' is not a group; did you mean '@keyring'?",
        "syscalls_deny: 'execve' cannot be denied: the job itself is started by it",
    ]


def test_allowing_something_where_nothing_is_denied_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is nothing to allow"):
        syscall_profile("none", allow=["ptrace"])


def test_checks_come_first_in_every_preset() -> None:
    assert all(preset.rules[: len(CHECKS)] == CHECKS for preset in PRESETS.values())
