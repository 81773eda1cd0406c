# SPDX-License-Identifier: Apache-2.0
"""Who enforces each limit on a given host: the heart of the plan, and where "fail closed" lives.

For every limit asked for there is exactly one answer: a cgroup file, an rlimit, a timer of ours,
documented sampling, or a refusal. The answer's text is what ``enforcement`` in the outcome shows.
"""

from __future__ import annotations

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.hooks import RLIMIT_NAMES
from supervisor.model.limit_kinds import LIMITS, Auto, Least, Percent, Rlimit
from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from supervisor.model.host import Host
    from supervisor.model.limits import Limits
    from supervisor.model.spec import JobSpec

#: limit -> (controller, file of the limit's cgroup)
CGROUP_FILES: Final = {
    "memory_min": ("memory", "memory.min"),
    "memory_low": ("memory", "memory.low"),
    "memory_high": ("memory", "memory.high"),
    "memory_max": ("memory", "memory.max"),
    "memory_swap_max": ("memory", "memory.swap.max"),
    "tasks_max": ("pids", "pids.max"),
    "cpu_quota": ("cpu", "cpu.max"),
    "cpu_quota_period": ("cpu", "cpu.max"),
    "cpu_weight": ("cpu", "cpu.weight"),
    "allowed_cpus": ("cpuset", "cpuset.cpus"),
    "allowed_memory_nodes": ("cpuset", "cpuset.mems"),
    "io_weight": ("io", "io.weight"),
    "io_read_bandwidth_max": ("io", "io.max"),
    "io_write_bandwidth_max": ("io", "io.max"),
    "io_read_iops_max": ("io", "io.max"),
    "io_write_iops_max": ("io", "io.max"),
}
_IO_KEYS: Final = {
    "io_read_bandwidth_max": "rbps",
    "io_write_bandwidth_max": "wbps",
    "io_read_iops_max": "riops",
    "io_write_iops_max": "wiops",
}
#: Not limits but claims on the host: infinity asks for everything, not for nothing.
PROTECTIONS: Final = ("memory_min", "memory_low")
#: Limits that can be watched by sampling where the kernel's own mechanism is missing.
SAMPLED: Final = {
    "memory_max": "sampled: resident memory of the tree (psutil), every 50 ms",
    "tasks_max": "sampled: threads of the tree (psutil), every 50 ms",
    "disk_max": "sampled: bytes the tree wrote to files (psutil), every 50 ms",
}
DEFAULT_QUOTA_PERIOD_NS: Final = 100_000_000
RLIMIT_CPU: Final = 0


@value
class CgroupWrite:
    """Text for a file of the limit's cgroup and the words that must read back."""

    file: str
    text: str
    expect: str


@value
class Enforcement:
    """The decisions: resolved limits, cgroup writes, rlimits, what is sampled, and the words for it."""

    limits: Limits
    writes: tuple[CgroupWrite, ...]
    rlimits: Mapping[int, Rlimit]
    sampled: tuple[str, ...]
    enforcement: Mapping[str, str]
    enforced: frozenset[str]
    warnings: tuple[str, ...]
    cpuset: bool


def enforce(spec: JobSpec, host: Host) -> Enforcement:
    """Decide who enforces each limit of ``spec`` on ``host``.

    Raises :class:`UnsupportedError` naming every limit nobody can enforce and the missing piece,
    unless it is in ``spec.best_effort``.
    """
    limits = _resolve(spec.limits, host)
    given = limits.given()
    words: dict[str, str] = {"tree": _tree_words(spec, host)}
    lacking: dict[str, str] = {}
    sampled: list[str] = []
    warnings: list[str] = []
    for name, amount in given.items():
        missing = _disk_problem(spec) if name == "disk_max" else _missing(name, amount, host)
        if amount == INFINITY and name not in PROTECTIONS and (missing is not None or name not in CGROUP_FILES):
            words[name] = "none needed (infinity)"
        elif missing is None:
            words[name] = _mechanism(name, host)
        elif name not in spec.best_effort:
            lacking[name] = missing
        elif name in SAMPLED:
            words[name] = SAMPLED[name]
            sampled.append(name)
        else:
            words[name] = "none (best effort)"
            warnings.append(f"{name} is not enforced: {missing}")
    if lacking:
        reasons = dict.fromkeys(lacking.values())
        raise UnsupportedError(", ".join(lacking), "; ".join(reasons))
    enforced = {name: amount for name, amount in given.items() if name in words and not words[name].startswith(("none", "sampled"))}
    return Enforcement(
        limits=limits,
        writes=_writes(enforced, host, warnings),
        rlimits=_rlimits(enforced, host),
        sampled=tuple(sampled),
        enforcement=words,
        enforced=frozenset([name for name, how in words.items() if not how.startswith("none")]),
        warnings=tuple(warnings),
        cpuset="allowed_cpus" in enforced or "allowed_memory_nodes" in enforced,
    )


def _disk_problem(spec: JobSpec) -> str | None:
    from supervisor.model.confine import disk_problem

    return disk_problem(spec)


def _tree_words(spec: JobSpec, host: Host) -> str:
    if host.cgroup is None:
        if spec.sandbox is not None and spec.sandbox.level == "strict":
            return "pid namespace of the init helper"
        return "init helper as sub-reaper, killing descendants"
    return "cgroup.kill" if host.cgroup.has_kill else "cgroup.freeze, then SIGKILL to every member"


def _resolve(limits: Limits, host: Host) -> Limits:
    """Shares become amounts of this host; a memory cap without a word on swap forbids swap."""
    resolved = limits
    if any(isinstance(amount, (Percent, Auto, Least)) for amount in limits.given().values()):
        from supervisor.model.relative import resolve_relative  # most jobs say amounts

        resolved = resolve_relative(limits, host)
    if resolved.memory_max not in (None, INFINITY) and resolved.memory_swap_max is None and _can_swap_max(host):
        resolved = replace(resolved, memory_swap_max=0)
    return resolved


def _can_swap_max(host: Host) -> bool:
    return host.cgroup is not None and "memory" in host.cgroup.controllers and host.cgroup.has_swap_max


def _missing(name: str, amount: Any, host: Host) -> str | None:
    """The piece this host lacks for the limit, or None."""
    if name in CGROUP_FILES:
        return _missing_controller(name, host)
    resource = LIMITS[name].rlimit
    if resource is not None and not host.capable_resource:
        hard = host.hard_rlimits.get(resource, INFINITY)
        if amount.hard > hard:
            return f"RLIMIT_{RLIMIT_NAMES[resource]} above {hard} needs CAP_SYS_RESOURCE"
    return None


def _missing_controller(name: str, host: Host) -> str | None:
    controller = CGROUP_FILES[name][0]
    if host.cgroup is None:
        return host.no_cgroup or "no cgroup v2 subtree can be used here"
    if controller not in host.cgroup.controllers:
        return f"the cgroup v2 controller {controller!r} is not available in {host.cgroup.path} ('ringfence doctor' says how to get it)"
    if name == "memory_swap_max" and not host.cgroup.has_swap_max:
        return "this kernel does not account swap (memory.swap.max is missing)"
    return None


def _mechanism(name: str, host: Host) -> str:
    if name in CGROUP_FILES:
        return "cgroup " + CGROUP_FILES[name][1]
    resource = LIMITS[name].rlimit
    if resource is not None:
        return f"RLIMIT_{RLIMIT_NAMES[resource]}"
    if name == "cpu_time_max":
        return ("cgroup cpu.stat" if host.cgroup else "processor time of the process tree") + " and timer, RLIMIT_CPU behind it"
    if name == "idle_time_max":
        return ("cgroup cpu.stat" if host.cgroup else "processor time of the process tree") + ", output and timer"
    if name == "disk_max":
        return "size of the sandbox's own file system"
    return "bytes counted on the way" if name == "output_max" else "timer on CLOCK_MONOTONIC"


def _rlimits(given: Mapping[str, Any], host: Host) -> dict[int, Rlimit]:
    made = {kind.rlimit: given[name] for name, kind in LIMITS.items() if kind.rlimit is not None and name in given}
    cpu_ns = given.get("cpu_time_max", INFINITY)
    if cpu_ns != INFINITY:
        # Twice the limit and a second: the kernel's count for RLIMIT_CPU runs ahead of the time really used (see
        # classify.RLIMIT_CPU_SEEN), and a backstop must never come before the timer it stands behind.
        backstop = 2 * -(-int(cpu_ns) // 1_000_000_000) + 1
        hard = INFINITY if host.capable_resource else host.hard_rlimits.get(RLIMIT_CPU, INFINITY)
        own = made.get(RLIMIT_CPU, Rlimit(soft=hard, hard=hard))  # never above what we may set
        made[RLIMIT_CPU] = Rlimit(soft=min(own.soft, backstop), hard=min(own.hard, backstop + 1))
    return made


def _writes(given: Mapping[str, Any], host: Host, warnings: list[str]) -> tuple[CgroupWrite, ...]:
    if host.cgroup is None:
        return ()
    writes = []
    for name, amount in given.items():
        if name in CGROUP_FILES and name not in _IO_KEYS and not name.startswith("cpu_quota"):
            writes.append(_simple_write(name, amount, host))
    if "cpu_quota" in given or "cpu_quota_period" in given:
        writes.append(_quota_write(given))
    writes += _io_writes(given, host)
    if given.get("memory_max", INFINITY) != INFINITY and not host.cgroup.has_swap_max:
        warnings.append("swap is not accounted by this kernel: memory_max holds resident memory only")
    return tuple(writes)


def _simple_write(name: str, amount: Any, host: Host) -> CgroupWrite:
    file = CGROUP_FILES[name][1]
    if isinstance(amount, tuple):
        from supervisor.model.cpulist import format_cpu_list  # few jobs name processors

        text = format_cpu_list(amount)
    elif amount == INFINITY:
        text = "max"
    else:
        # page counters are kept in whole pages, rounded down (mm/page_counter.c)
        text = str(amount - amount % host.page_size if name.startswith("memory") else amount)
    return CgroupWrite(file=file, text=text, expect=text)


def _quota_write(given: Mapping[str, Any]) -> CgroupWrite:
    period_us = int(given.get("cpu_quota_period", DEFAULT_QUOTA_PERIOD_NS)) // 1000
    quota = given.get("cpu_quota", INFINITY)
    if quota == INFINITY:
        text = f"max {period_us}"
    else:
        # the kernel's least quota is 1 ms (kernel/sched/core.c, min_cfs_quota_period): stretch the period for small shares
        while quota.ppm * period_us < 1000 * 1_000_000 and period_us < 1_000_000:
            period_us = min(1_000_000, period_us * 2)
        amount_us = quota.ppm * period_us // 1_000_000
        if amount_us < 1000:
            raise ConfigError("cpu_quota: below 0.1% of one processor the kernel cannot count")
        text = f"{amount_us} {period_us}"
    return CgroupWrite(file="cpu.max", text=text, expect=text)


def _io_writes(given: Mapping[str, Any], host: Host) -> list[CgroupWrite]:
    by_device: dict[str, dict[str, int | float]] = {}
    for name, key in _IO_KEYS.items():
        for limit in given.get(name, ()):
            device = host.block_devices.get(limit.path)
            if device is None:
                raise ConfigError(f"{name}: {limit.path} is not on a block device whose I/O the kernel can limit")
            keys = by_device.setdefault(device, {})
            keys[key] = min(limit.amount, keys.get(key, INFINITY))  # two paths may lie on one device
    writes = []
    for device, keys in sorted(by_device.items()):
        text = " ".join([device, *(f"{key}={'max' if amount == INFINITY else amount}" for key, amount in keys.items())])
        capped = any(amount != INFINITY for amount in keys.values())  # a line of nothing but max is not shown
        writes.append(CgroupWrite(file="io.max", text=text, expect=text if capped else ""))
    return writes
