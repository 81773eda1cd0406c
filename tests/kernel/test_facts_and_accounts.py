# SPDX-License-Identifier: Apache-2.0
"""The facts about the host, and names of users and groups."""

from __future__ import annotations

import os
import pwd
import resource
from pathlib import Path

import facts
import pytest

from supervisor import ConfigError, Limits, UnsupportedError
from supervisor.kernel.accounts import home_environment, resolve
from supervisor.kernel.probe import block_devices, own_environment, read_host


def online_processors() -> list[str]:
    """Those of /proc/cpuinfo, whoever may run on them."""
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor\t")]


def test_the_facts_are_the_kernels() -> None:
    """Each against a second source."""
    host = read_host(None, "because")
    assert host.page_size == resource.getpagesize()
    assert host.processors == len(os.sched_getaffinity(0))
    filtered = "\nSeccomp:\t2\n" in Path("/proc/self/status").read_text()
    assert (host.syscall_filter, host.stay_processors) == (filtered, 0 if filtered else len(online_processors()))
    assert host.effective_uid == os.geteuid()
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert abs(host.memory_total_bytes - total * 1024) < 1 << 26
    assert host.tasks_total == int(Path("/proc/sys/kernel/pid_max").read_text())
    for number in range(0 if host.capable_resource else 16):  # who may raise them need not know them
        hard = resource.getrlimit(number)[1]
        assert host.hard_rlimits[number] == (float("inf") if hard == resource.RLIM_INFINITY else hard)
    assert host.cgroup is None and host.no_cgroup == "because"


@pytest.mark.requires("processors")
def test_how_many_processors_are_online_does_not_depend_on_where_we_may_run() -> None:
    """Whoever is bound would pass for one that is not, and lose its binding."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert read_host(None).stay_processors in (0, len(online_processors()))
    finally:
        os.sched_setaffinity(0, before)


def test_our_environment_is_told_in_bytes_and_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of os.environ are seen."""
    monkeypatch.setenv("RINGFENCE_TEST_VARIABLE", "\u00fc")
    assert own_environment()[b"RINGFENCE_TEST_VARIABLE"] == "\u00fc".encode()
    monkeypatch.delenv("RINGFENCE_TEST_VARIABLE")
    assert b"RINGFENCE_TEST_VARIABLE" not in own_environment()


def test_the_disk_behind_a_path_is_found_and_none_where_there_is_none() -> None:
    """A whole disk, never a partition; /proc has none."""
    found = block_devices(Limits(io_read_bandwidth_max=["/ 1M", "/proc 1M", "/no/such/path 1M"]))
    assert "/proc" not in found and "/no/such/path" not in found
    for device in found.values():
        assert not Path(f"/sys/dev/block/{device}/partition").exists()
    assert block_devices(Limits()) == {}


def test_names_and_numbers_of_accounts_are_the_same() -> None:
    """Ourselves: by name, by number, by number as text."""
    me = pwd.getpwuid(os.geteuid())
    for spelling in (me.pw_name, me.pw_uid, str(me.pw_uid)):
        who = resolve(spelling, None)
        assert (who.uid, who.gid) == (me.pw_uid, me.pw_gid)
    assert resolve(None, None) == resolve(None, None, None)
    assert home_environment(me.pw_name)["HOME"] == me.pw_dir
    assert home_environment(3_999_999) == {}


def test_unknown_names_are_refused_in_words() -> None:
    """Users and groups."""
    with pytest.raises(ConfigError, match="user: there is no user 'nobody-of-that-name'"):
        resolve("nobody-of-that-name", None)
    with pytest.raises(ConfigError, match="group: there is no group 'no-such-group'"):
        resolve(None, "no-such-group")


@pytest.mark.requires("root")
def test_root_may_become_anybody() -> None:
    """With the supplementary groups of the account, or those given."""
    who = resolve(facts.NOBODY, None)
    assert who.uid == facts.NOBODY and who.groups is not None and 0 not in who.groups
    assert resolve(facts.NOBODY, 7, (8, 9)).groups == (8, 9)
    assert resolve(3_999_999, 5).groups == ()


@pytest.mark.requires("user")
def test_an_ordinary_user_may_become_nobody_else() -> None:
    """Refused with what it would take."""
    for arguments in ((0, None), (None, 0), (facts.NOBODY, None)):
        with pytest.raises(UnsupportedError, match="needs root"):
            resolve(*arguments)
