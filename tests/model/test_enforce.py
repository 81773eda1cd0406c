# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.enforce`` claims: every limit has exactly one enforcer that this host really has, or the job is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from model_strategies import BARE_HOST, BLOCK_DEVICES, FULL_CGROUP, FULL_HOST, brief, comparable_limits, hosts, ppm, relaxed, specs

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.enforce import CGROUP_FILES, SAMPLED, CgroupWrite, Enforcement, enforce
from supervisor.model.host import CgroupFacts, Host
from supervisor.model.limit_kinds import LIMITS, Percent, Rlimit
from supervisor.model.limits import Limits, tighten
from supervisor.model.spec import JobSpec
from supervisor.model.units import INFINITY
from supervisor.model.value import replace

M, G, S = 2**20, 2**30, 10**9
MEMORY = tuple(name for name in CGROUP_FILES if name.startswith("memory"))


#: A period is finite, and a protection of infinity asks for everything.
NEVER_UNLIMITED = ("cpu_quota_period", "memory_min", "memory_low")


def decide(host: Host = FULL_HOST, best_effort: tuple[str, ...] = (), **limits: Any) -> Enforcement:
    return enforce(JobSpec(argv=("true",), limits=Limits(**limits), best_effort=frozenset(best_effort)), host)


def written(decided: Enforcement) -> dict[str, str]:
    return {write.file: write.text for write in decided.writes}


def with_controllers(*controllers: str, **facts: Any) -> Host:
    return replace(FULL_HOST, cgroup=replace(FULL_CGROUP, controllers=frozenset(controllers), **facts))


def unlimited(name: str, amount: Any) -> bool:
    """Nothing has to be done for it. A protection (memory_min, memory_low) of infinity asks for a lot."""
    return bool(amount == INFINITY and name not in ("memory_min", "memory_low"))


# fail closed


@brief
@given(specs(), hosts)
def test_every_limit_has_an_enforcer_or_is_best_effort_or_is_refused_by_name(spec: JobSpec, host: Host) -> None:
    try:
        decided = enforce(spec, host)
    except UnsupportedError as refused:
        named = refused.feature.split(", ")
        assert named
        assert set(named) <= set(spec.limits.given()) - spec.best_effort
        assert refused.missing
        return
    except ConfigError as refused:
        assert all(problem.partition(":")[0] in spec.limits.given() for problem in refused.problems)
        return
    for name, amount in spec.limits.given().items():
        how = decided.enforcement[name]
        if how.startswith(("none", "sampled")):
            assert name in spec.best_effort or unlimited(name, amount), how
    assert set(decided.enforcement) - set(spec.limits.given()) <= {"tree", "memory_swap_max"}


@brief
@given(specs(), hosts)
def test_best_effort_limits_never_refuse_a_job(spec: JobSpec, host: Host) -> None:
    spec = replace(spec, best_effort=frozenset(spec.limits.given()))
    try:
        decided = enforce(spec, host)
    except ConfigError:
        return
    lapsed = {name for name in spec.limits.given() if decided.enforcement[name] == "none (best effort)"}
    assert {warning.partition(" ")[0] for warning in decided.warnings} - {"swap"} == lapsed


@brief
@given(specs(), hosts)
def test_a_mechanism_that_is_named_is_there_and_is_used(spec: JobSpec, host: Host) -> None:
    try:
        decided = enforce(spec, host)
    except (UnsupportedError, ConfigError):
        return
    files = {write.file for write in decided.writes}
    for name, how in decided.enforcement.items():
        if how.startswith("cgroup ") and name in CGROUP_FILES:
            controller, file = CGROUP_FILES[name]
            assert host.cgroup is not None
            assert controller in host.cgroup.controllers
            assert how == f"cgroup {file}"
            assert file in files, name
        elif how.startswith("RLIMIT_"):
            assert LIMITS[name].rlimit in decided.rlimits


@brief
@given(specs(), hosts)
def test_nothing_is_written_that_the_host_lacks(spec: JobSpec, host: Host) -> None:
    try:
        decided = enforce(spec, host)
    except (UnsupportedError, ConfigError):
        return
    for write in decided.writes:
        assert host.cgroup is not None
        assert write.file.partition(".")[0] in host.cgroup.controllers
        assert write.file != "memory.swap.max" or host.cgroup.has_swap_max


@brief
@given(specs(), hosts)
def test_no_hard_rlimit_is_raised_by_somebody_who_may_not(spec: JobSpec, host: Host) -> None:
    """The backstop of cpu_time_max included: setrlimit(2) would fail, and with it the launch."""
    try:
        decided = enforce(spec, host)
    except (UnsupportedError, ConfigError):
        return
    for number, limit in decided.rlimits.items():
        assert limit.soft <= limit.hard
        assert host.capable_resource or limit.hard <= host.hard_rlimits.get(number, INFINITY)


def test_a_refusal_names_every_limit_and_the_missing_piece() -> None:
    with pytest.raises(UnsupportedError) as caught:
        decide(BARE_HOST, memory_max="64M", tasks_max=5, wall_time_max=1)
    assert caught.value.feature == "memory_max, tasks_max"
    assert caught.value.missing == "no cgroup v2 mount was found"


def test_a_missing_controller_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"cpu_weight cannot be enforced here: the cgroup v2 controller 'cpu' is not available"):
        decide(with_controllers("memory"), cpu_weight=50)


def test_a_limit_on_swap_needs_a_kernel_that_accounts_it() -> None:
    with pytest.raises(UnsupportedError, match=r"memory\.swap\.max is missing"):
        decide(with_controllers("memory", has_swap_max=False), memory_swap_max="1G")


def test_disk_max_needs_a_private_file_system() -> None:
    with pytest.raises(UnsupportedError, match="file system of its own"):
        decide(disk_max="1G")


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_some_limits_are_sampled_when_that_is_good_enough(name: str) -> None:
    given: dict[str, Any] = {name: 64 * M}
    decided = decide(BARE_HOST, (name,), **given)
    assert decided.sampled == (name,)
    assert decided.enforcement[name].startswith("sampled: ")
    assert decided.writes == ()


def test_other_limits_lapse_with_a_warning_when_that_is_good_enough() -> None:
    decided = decide(BARE_HOST, ("cpu_weight",), cpu_weight=50)
    assert decided.enforcement["cpu_weight"] == "none (best effort)"
    assert decided.warnings == ("cpu_weight is not enforced: no cgroup v2 mount was found",)


def test_best_effort_does_not_weaken_what_the_host_can_enforce() -> None:
    assert decide(FULL_HOST, ("memory_max",), memory_max="64M") == decide(memory_max="64M")


@pytest.mark.parametrize("host", [BARE_HOST, with_controllers(), FULL_HOST], ids=["no cgroup", "no controllers", "everything"])
@pytest.mark.parametrize(
    "name", [name for name in LIMITS if LIMITS[name].unit in ("ns", "bytes", "count", "percent") and name not in NEVER_UNLIMITED]
)
def test_infinity_is_never_refused_and_claims_no_mechanism_that_is_not_there(name: str, host: Host) -> None:
    given: dict[str, Any] = {name: "infinity"}
    decided = decide(host, **given)
    how = decided.enforcement[name]
    assert how.startswith("none") or written(decided) or decided.rlimits, how


def test_a_protection_of_infinity_is_a_request_and_needs_its_controller() -> None:
    with pytest.raises(UnsupportedError, match="memory_low"):
        decide(BARE_HOST, memory_low="infinity")
    assert written(decide(memory_low="infinity")) == {"memory.low": "max"}


@pytest.mark.parametrize(
    ("host", "how"),
    [
        (FULL_HOST, "cgroup.kill"),
        (replace(FULL_HOST, cgroup=replace(FULL_CGROUP, has_kill=False)), "cgroup.freeze, then SIGKILL to every member"),
        (BARE_HOST, "init helper as sub-reaper, killing descendants"),
    ],
)
def test_what_holds_the_tree_is_said(host: Host, how: str) -> None:
    assert decide(host).enforcement == {"tree": how}


# amounts


@pytest.mark.parametrize("name", MEMORY)
def test_a_share_of_memory_is_a_share_of_this_hosts(name: str) -> None:
    given: dict[str, Any] = {name: "25%"}
    assert getattr(decide(**given).limits, name) == 2 * G


def test_a_share_of_tasks_is_a_share_of_this_hosts() -> None:
    assert decide(replace(FULL_HOST, tasks_total=1000), tasks_max="1.5%").limits.tasks_max == 15


@relaxed
@given(ppm, st.integers(1, 2**45))
def test_a_share_is_rounded_down_but_never_to_nothing(share: int, total: int) -> None:
    limit = decide(replace(FULL_HOST, memory_total_bytes=total), memory_max=Percent(ppm=share)).limits.memory_max
    assert limit >= 1
    assert limit == 1 or limit * 1_000_000 <= total * share


@brief
@given(specs(), hosts)
def test_no_share_of_the_host_is_left_in_resolved_limits(spec: JobSpec, host: Host) -> None:
    try:
        decided = enforce(spec, host)
    except (UnsupportedError, ConfigError):
        return
    assert not [name for name, amount in decided.limits.given().items() if isinstance(amount, Percent) and name != "cpu_quota"]


@relaxed
@given(st.sampled_from(MEMORY), st.integers(0, 2**50), st.sampled_from([4096, 16384, 65536]))
def test_memory_is_written_in_whole_pages_never_more_than_asked(name: str, amount: int, page: int) -> None:
    given: dict[str, Any] = {name: amount}
    text = written(decide(replace(FULL_HOST, page_size=page), **given))[CGROUP_FILES[name][1]]
    assert int(text) % page == 0
    assert amount - page < int(text) <= amount


@relaxed
@given(ppm, st.none() | st.integers(1, 1000))
def test_a_quota_is_written_exactly_but_for_less_than_a_microsecond(share: int, period_ms: int | None) -> None:
    assume(share >= 1000)
    limits = Limits(cpu_quota=Percent(ppm=share), cpu_quota_period=None if period_ms is None else f"{period_ms}ms")
    amount, period = map(int, written(enforce(JobSpec(argv=("true",), limits=limits), FULL_HOST))["cpu.max"].split())
    assert amount >= 1000, "the kernel's least quota"
    assert 1000 <= period <= 1_000_000, "the kernel's bounds of a period"
    assert amount * 1_000_000 <= share * period < (amount + 1) * 1_000_000


@pytest.mark.parametrize(
    ("quota", "period", "text"),
    [
        ("50%", None, "50000 100000"),
        ("200%", None, "200000 100000"),
        ("100%", "10ms", "10000 10000"),
        ("infinity", None, "max 100000"),
        ("infinity", "20ms", "max 20000"),
        (None, "20ms", "max 20000"),
        ("0.5%", None, "1000 200000"),
        ("0.1%", None, "1000 1000000"),
    ],
)
def test_quota_of_a_few_shares(quota: str | None, period: str | None, text: str) -> None:
    assert written(decide(cpu_quota=quota, cpu_quota_period=period)) == {"cpu.max": text}


def test_a_quota_too_small_for_the_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cpu_quota: below 0\.1%"):
        decide(cpu_quota="0.05%")


# swap


@relaxed
@given(st.integers(1, 2**45))
def test_a_memory_cap_forbids_swap(amount: int) -> None:
    decided = decide(memory_max=amount)
    assert written(decided)["memory.swap.max"] == "0"
    assert decided.limits.memory_swap_max == 0
    assert decided.enforcement["memory_swap_max"] == "cgroup memory.swap.max"


def test_swap_is_allowed_by_those_who_say_so() -> None:
    assert written(decide(memory_max="64M", memory_swap_max="infinity"))["memory.swap.max"] == "max"
    assert written(decide(memory_max="64M", memory_swap_max="16M"))["memory.swap.max"] == str(16 * M)


def test_swap_is_not_mentioned_without_a_memory_cap() -> None:
    assert written(decide(memory_high="64M")) == {"memory.high": str(64 * M)}
    assert written(decide(memory_max="infinity")) == {"memory.max": "max"}


def test_a_memory_cap_on_a_kernel_that_does_not_account_swap_carries_a_warning() -> None:
    decided = decide(with_controllers("memory", has_swap_max=False), memory_max="64M")
    assert written(decided) == {"memory.max": str(64 * M)}
    assert decided.warnings == ("swap is not accounted by this kernel: memory_max holds resident memory only",)


# processor time


@relaxed
@given(st.integers(1, 10**13))
def test_a_limit_on_processor_time_has_an_rlimit_behind_it_that_never_comes_first(cpu_ns: int) -> None:
    limits = replace(Limits(), cpu_time_max=cpu_ns)
    backstop = enforce(JobSpec(argv=("true",), limits=limits), FULL_HOST).rlimits[0]
    assert 2 * cpu_ns + S <= backstop.soft * S < 2 * cpu_ns + 3 * S
    assert backstop.hard == backstop.soft + 1


def test_the_backstop_never_loosens_a_limit_on_each_process() -> None:
    assert decide(cpu_time_max="10s", limit_cpu="2:3").rlimits[0] == Rlimit(soft=2, hard=3)
    assert decide(cpu_time_max="1s", limit_cpu="infinity").rlimits[0] == Rlimit(soft=3, hard=4)


def test_rlimits_are_numbered_as_the_kernel_does() -> None:
    assert decide(limit_nofile="64:128", limit_core=0).rlimits == {7: Rlimit(soft=64, hard=128), 4: Rlimit(soft=0, hard=0)}


def test_an_unprivileged_supervisor_lowers_but_never_raises() -> None:
    host = replace(FULL_HOST, capable_resource=False, hard_rlimits={7: 1024})
    assert decide(host, limit_nofile=1024).rlimits[7].hard == 1024
    with pytest.raises(UnsupportedError, match="RLIMIT_NOFILE above 1024 needs CAP_SYS_RESOURCE"):
        decide(host, limit_nofile="10:1025")


# devices


def test_limits_of_one_device_go_into_one_line() -> None:
    decided = decide(io_read_bandwidth_max="/dev/sda 1M", io_write_iops_max={"/dev/sda": 50, "/dev/sdb": 10})
    assert decided.writes == (
        CgroupWrite(file="io.max", text=f"8:0 rbps={M} wiops=50", expect=f"8:0 rbps={M} wiops=50"),
        CgroupWrite(file="io.max", text="8:16 wiops=10", expect="8:16 wiops=10"),
    )


@pytest.mark.parametrize("amounts", [("1M", "2M"), ("2M", "1M"), ("infinity", "1M"), ("1M", "infinity")])
def test_two_paths_on_one_device_get_the_tighter_of_their_limits(amounts: tuple[str, str]) -> None:
    decided = decide(io_read_bandwidth_max={"/": amounts[0], "/dev/sda": amounts[1]})
    assert written(decided) == {"io.max": f"8:0 rbps={M}"}


def test_a_device_without_a_limit_has_no_line_to_read_back() -> None:
    assert decide(io_read_iops_max="/dev/sda infinity").writes == (CgroupWrite(file="io.max", text="8:0 riops=max", expect=""),)


def test_a_path_on_no_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="io_read_iops_max: /proc is not on a block device"):
        decide(io_read_iops_max="/proc 5")


# several limits


@relaxed
@given(comparable_limits, comparable_limits)
def test_what_is_enforced_of_two_sources_is_never_looser_than_of_either(a: Limits, b: Limits) -> None:
    limits = [replace(limits, disk_max=None, cpu_quota_period=None) for limits in (a, b)]
    assume(not any(isinstance(one.cpu_quota, Percent) and one.cpu_quota.ppm < 1000 for one in limits))
    both, *each = [enforce(JobSpec(argv=("true",), limits=one), FULL_HOST) for one in (tighten(*limits), *limits)]
    for one in each:
        for number, limit in one.rlimits.items():
            assert both.rlimits[number].soft <= limit.soft
            assert both.rlimits[number].hard <= limit.hard
        for file, amount in amounts_of(one).items():
            assert amounts_of(both)[file] <= amount, file


def amounts_of(decided: Enforcement) -> dict[str, float]:
    """What is written, as numbers that are less when they allow less."""
    found: dict[str, float] = {}
    for write in decided.writes:
        if write.file == "io.max":
            device, *words = write.text.split()
            found |= {f"{device} {key}": number(amount) for key, _, amount in (word.partition("=") for word in words)}
        elif write.file == "cpu.max":
            amount, period = write.text.split()
            found[write.file] = number(amount) / int(period)
        elif not write.file.startswith("cpuset"):
            found[write.file] = number(write.text)
    return found


def number(text: str) -> float:
    return INFINITY if text == "max" else int(text)


@brief
@given(specs(), hosts)
def test_the_same_question_gets_the_same_answer(spec: JobSpec, host: Host) -> None:
    def answer() -> object:
        try:
            return enforce(spec, host)
        except (UnsupportedError, ConfigError) as refused:
            return str(refused)

    assert answer() == answer()


def test_the_devices_of_these_tests_are_what_they_say() -> None:
    assert BLOCK_DEVICES["/"] == BLOCK_DEVICES["/dev/sda"] != BLOCK_DEVICES["/dev/sdb"]
    assert isinstance(FULL_HOST.cgroup, CgroupFacts)
