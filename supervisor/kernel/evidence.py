# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a job that has ended: read after its tree is empty, before it is removed."""

from __future__ import annotations

from supervisor.model.stats import parse_flat_keyed, parse_io_stat, parse_pressure, parse_single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.kernel.cgroup import Cgroup


class Reading:
    """Numbers by usage field, each with its source, and the counters the verdict needs."""

    __slots__ = ("oom_kills", "oom_local", "sources", "tasks_denied", "usage")

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.oom_kills: int | None = None
        self.oom_local: int | None = None
        self.tasks_denied: int | None = None

    def put(self, name: str, number: int | None, source: str) -> None:
        """Note a number; unknown ones leave no trace, so nothing unknown can look like 0."""
        if number is not None:
            self.usage[name] = number
            self.sources[name] = source

    def put_all(self, numbers: dict[str, int], source: str) -> None:
        """Note numbers that are all known and have one source."""
        self.usage |= numbers
        self.sources |= dict.fromkeys(numbers, source)


CPU_FIELDS = ("cpu_ns", "cpu_user_ns", "cpu_system_ns")


def read_cgroup(
    cgroup: Cgroup, controllers: frozenset[str], box: str, leaf: str, cpu_us: tuple[int, int, int] | None, into: Reading, top: str = ""
) -> None:
    """Add what the job's cgroup tells; ``box`` is the directory below it that holds the limits, ``leaf`` the one of its processes.

    ``top``: where the whole job is, when its cgroup holds the init helper too: what that one uses is not the job's.
    ``cpu_us``: usage, user and system of cpu.stat where the engine read them already, at the reaping.
    """
    whole = f"{top}/" if top else ""
    if cpu_us is None:
        cpu = parse_flat_keyed(cgroup.read(whole + "cpu.stat") or "")
        cpu_us = (cpu.get("usage_usec", -1), cpu.get("user_usec", -1), cpu.get("system_usec", -1))
    into.put_all({name: amount * 1000 for name, amount in zip(CPU_FIELDS, cpu_us, strict=True) if amount >= 0}, "cgroup cpu.stat")
    if not controllers:
        return
    prefix = f"{box}/" if box else ""
    inner = f"{leaf}/" if leaf else ""
    throttled = parse_flat_keyed(cgroup.read(prefix + "cpu.stat") or "").get("throttled_usec")
    into.put("throttled_ns", None if throttled is None else throttled * 1000, "cgroup cpu.stat")
    if "memory" in controllers:
        into.put("memory_peak_bytes", parse_single(cgroup.read(whole + "memory.peak") or ""), "cgroup memory.peak")
        into.put("swap_peak_bytes", parse_single(cgroup.read(whole + "memory.swap.peak") or ""), "cgroup memory.swap.peak")
        into.oom_local = parse_flat_keyed(cgroup.read(prefix + "memory.events.local") or "").get("oom")
        # Without an event at the job's own limit only kills in the job's own cgroup count: a job may hold children to
        # limits of its own in cgroups below, and what happens there is its affair.
        events = whole + "memory.events" if into.oom_local else f"{inner}memory.events.local"
        into.oom_kills = parse_flat_keyed(cgroup.read(events) or "").get("oom_kill")
    if "pids" in controllers:
        into.put("tasks_peak", parse_single(cgroup.read(whole + "pids.peak") or ""), "cgroup pids.peak")
        into.tasks_denied = parse_flat_keyed(cgroup.read(prefix + "pids.events") or "").get("max")
    if "io" in controllers:
        text = cgroup.read(whole + "io.stat")
        if text is not None:
            read, written = parse_io_stat(text)
            into.put("io_read_bytes", read, "cgroup io.stat")
            into.put("io_write_bytes", written, "cgroup io.stat")
    pressure = {}
    for resource in ("cpu", "memory", "io"):
        text = cgroup.read(f"{whole}{resource}.pressure")
        if text:
            pressure[resource] = parse_pressure(text)
    if pressure:
        into.usage["pressure"] = pressure
        into.sources["pressure"] = "cgroup *.pressure, total stall time in ns"
