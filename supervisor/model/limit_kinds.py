# SPDX-License-Identifier: Apache-2.0
"""The one table of limits that every front door reads: how each is spelled, parsed and explained.

Names are systemd's directives in snake_case (``MemoryMax`` → ``memory_max``, ``LimitNOFILE`` →
``limit_nofile``), so one word serves the API, the command line, policy files and outcomes.
"""

from __future__ import annotations

from supervisor.model.units import INFINITY, parse_bytes, parse_count, parse_duration_ns, parse_percent_ppm
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

    Number = int | float


@value
class Percent:
    """A share of something the host decides: ``ppm`` millionths of it (50 % is 500,000)."""

    ppm: int

    def __str__(self) -> str:
        whole, rest = divmod(self.ppm, 10_000)
        return f"{whole}%" if rest == 0 else f"{whole}.{rest:04d}".rstrip("0") + "%"


@value
class Auto:
    """What suits the host, decided when the plan is made; the rules are in :mod:`supervisor.model.relative`."""

    def __str__(self) -> str:
        return "auto"


@value
class Least:
    """The least of several amounts that only the host makes comparable; made by ``tighten``, at most one of each kind."""

    of: tuple[Number | Percent | Auto, ...]


@value
class Rlimit:
    """A soft and a hard value of one resource of setrlimit(2); ``INFINITY`` is RLIM_INFINITY."""

    soft: Number
    hard: Number

    def __str__(self) -> str:
        soft, hard = (("infinity" if x == INFINITY else str(x)) for x in (self.soft, self.hard))
        return soft if soft == hard else f"{soft}:{hard}"


@value
class DeviceLimit:
    """An I/O limit on one device: ``path`` is the device node or any file on it; ``amount`` per second."""

    path: str
    amount: Number

    def __str__(self) -> str:
        return f"{self.path} {'infinity' if self.amount == INFINITY else self.amount}"


def _text_or_number(given: object) -> str | int | float:
    if isinstance(given, (str, int, float)) and not isinstance(given, bool):
        return given
    raise ValueError(f"expected a text or a number, not {type(given).__name__}")


def _positive(amount: Number) -> Number:
    if amount <= 0:
        raise ValueError("must be more than zero")
    return amount


def _duration(given: object) -> Number:
    if isinstance(given, float) and given == INFINITY:
        return given
    return _positive(parse_duration_ns(given if hasattr(given, "total_seconds") else _text_or_number(given)))


def _amount_of_memory(given: object) -> Number | Percent | Auto | Least:
    """A size, or what becomes one on the host; ``auto`` for the limits that have a rule for it."""
    if isinstance(given, (Auto, Least)):
        return given
    return Auto() if given == "auto" else _bytes(given)


def _bytes(given: object) -> Number | Percent | Least:
    if isinstance(given, (Percent, Least)):
        return given
    if given == "auto":
        raise ValueError("auto has no meaning here; there is one for memory_high, memory_max, tasks_max and cpu_quota")
    if isinstance(given, str) and given.strip().endswith("%"):
        return Percent(ppm=parse_percent_ppm(given))
    if isinstance(given, float) and given == INFINITY:
        return given
    if isinstance(given, float):
        raise ValueError("a size is a whole number of bytes or a text such as '256M'")
    return parse_bytes(_text_or_number(given))  # type: ignore[arg-type]


def _size(given: object) -> Number:
    amount = _bytes(given)
    if isinstance(amount, (Percent, Least)):
        raise ValueError("a percentage has no meaning here; give a size such as '64M'")
    return amount


def _count(given: object) -> Number:
    if isinstance(given, float) and given == INFINITY:
        return given
    if isinstance(given, float):
        raise ValueError("must be a whole number")
    return parse_count(_text_or_number(given))  # type: ignore[arg-type]


def _tasks(given: object) -> Number | Percent | Auto | Least:
    if isinstance(given, (Percent, Auto, Least)):
        return given
    if given == "auto":
        return Auto()
    if isinstance(given, str) and given.strip().endswith("%"):
        return Percent(ppm=parse_percent_ppm(given))
    return _positive(_count(given))


def _quota(given: object) -> Percent | Number | Auto | Least:
    if isinstance(given, (Percent, Auto, Least)):
        return given
    if given == "auto":
        return Auto()
    if given in ("infinity", "max") or given == INFINITY:
        return INFINITY
    if not isinstance(given, str):
        raise ValueError("must be a percentage of one processor such as '50%' ('200%' is two processors)")
    ppm = parse_percent_ppm(given)
    if ppm < 100:  # the kernel's least quota is 1 ms, and its longest period 1 s; systemd stops at 0.01 %
        raise ValueError("must be at least 0.01%")
    return Percent(ppm=ppm)


def _period(given: object) -> Number:
    period = _duration(given)
    if not 1_000_000 <= period <= 1_000_000_000:
        raise ValueError("must be between 1ms and 1s, the kernel's bounds")
    return period


def _weight(given: object) -> int:
    amount = _count(given)
    if not 1 <= amount <= 10_000:
        raise ValueError("must be between 1 and 10000 (100 is everybody's default)")
    return int(amount)


def _cpus(given: object) -> tuple[int, ...]:
    from supervisor.model.cpulist import parse_cpu_list  # few jobs name processors

    if isinstance(given, str):
        return parse_cpu_list(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return parse_cpu_list(str(given))
    if isinstance(given, (tuple, list, set, frozenset)):
        return parse_cpu_list(",".join(str(item) for item in given))
    raise ValueError("must be a list of processors such as '0-3,8'")


def _device_line(line: object, amount_of: Callable[[object], Number]) -> DeviceLimit:
    if isinstance(line, DeviceLimit):
        return line
    path, _, amount = line.strip().partition(" ") if isinstance(line, str) else ("", "", "")
    if not path.startswith("/") or not amount.strip():
        raise ValueError("must be a device or a path and an amount per second, such as '/dev/vda 10M'")
    return DeviceLimit(path=path, amount=_positive(amount_of(amount.strip())))


def _devices(given: object, amount_of: Callable[[object], Number]) -> tuple[DeviceLimit, ...]:
    if isinstance(given, dict):
        given = [f"{path} {amount}" for path, amount in given.items()]
    lines = given.split(", ") if isinstance(given, str) else given if isinstance(given, (tuple, list)) else (given,)
    merged = {limit.path: limit for limit in (_device_line(line, amount_of) for line in lines)}
    if not merged:
        raise ValueError("names no device")
    return tuple(merged[path] for path in sorted(merged))


def _bandwidth(given: object) -> tuple[DeviceLimit, ...]:
    return _devices(given, _size)


def _iops(given: object) -> tuple[DeviceLimit, ...]:
    return _devices(given, _count)


def _rlimit_of(amount_of: Callable[[object], Number]) -> Callable[[object], Rlimit]:
    def rlimit(given: object) -> Rlimit:
        if isinstance(given, Rlimit):
            return given
        parts = given.split(":") if isinstance(given, str) else list(given) if isinstance(given, (tuple, list)) else [given]
        if len(parts) not in (1, 2):
            raise ValueError("must be one value or 'soft:hard'")
        soft = amount_of(parts[0])
        hard = amount_of(parts[-1])
        if soft > hard:
            raise ValueError(f"the soft limit must not be above the hard limit ({Rlimit(soft=soft, hard=hard)})")
        return Rlimit(soft=soft, hard=hard)

    return rlimit


def _seconds(given: object) -> Number:
    """RLIMIT_CPU counts whole seconds; a fraction is rounded up, as systemd does."""
    ns = _duration(given)
    return ns if ns == INFINITY else -(-int(ns) // 1_000_000_000)


def _microseconds(given: object) -> Number:
    """RLIMIT_RTTIME counts microseconds; a plain number is taken as such, as systemd does."""
    if isinstance(given, int) or (isinstance(given, str) and given.isdecimal()):
        return _count(given)
    ns = _duration(given)
    return ns if ns == INFINITY else -(-int(ns) // 1_000)


def _nice(given: object) -> Number:
    """RLIMIT_NICE: a nice level with its sign ('+5', '-10') or the kernel's own 0 to 40, as systemd reads it."""
    text = str(given).strip()
    if text[:1] in ("+", "-") and text[1:].isdecimal():
        level = int(text)
        if not -20 <= level <= 19:
            raise ValueError("a nice level lies between -20 and +19")
        return 20 - level
    amount = _count(given)
    if amount != INFINITY and amount > 40:
        raise ValueError("must be between 0 and 40, or a nice level with its sign such as '-5'")
    return amount


@value
class LimitKind:
    """One row of the table: how a limit is spelled, read and shown."""

    name: str
    directive: str
    parse: Callable[[object], Any]
    unit: str  # "bytes", "ns", "count", ...: of the normalised value
    rlimit: int | None = None  # number of the resource in setrlimit(2), generic Linux ABI
    help: str = ""


def _rows() -> Iterable[tuple[str, str, Any, str, int | None, str]]:
    yield "cpu_time_max", "CPUTimeMax", _duration, "ns", None, "processor time of the whole tree"
    yield "wall_time_max", "RuntimeMaxSec", _duration, "ns", None, "time from start to end, pauses not counted"
    yield "idle_time_max", "IdleTimeMax", _duration, "ns", None, "time without output and without using the processor"
    yield "memory_min", "MemoryMin", _bytes, "bytes", None, "memory that is never reclaimed from the job"
    yield "memory_low", "MemoryLow", _bytes, "bytes", None, "memory that is reclaimed last"
    yield "memory_high", "MemoryHigh", _amount_of_memory, "bytes", None, "memory above which the job is slowed and reclaimed"
    yield "memory_max", "MemoryMax", _amount_of_memory, "bytes", None, "memory above which the job is ended"
    yield "memory_swap_max", "MemorySwapMax", _bytes, "bytes", None, "swap of the whole tree (0 when memory_max is set and this is not)"
    yield "tasks_max", "TasksMax", _tasks, "count", None, "processes and threads of the whole tree"
    yield "cpu_quota", "CPUQuota", _quota, "percent", None, "processor time per time, 100% is one processor"
    yield "cpu_quota_period", "CPUQuotaPeriodSec", _period, "ns", None, "period of cpu_quota, 1ms to 1s, 100ms by default"
    yield "cpu_weight", "CPUWeight", _weight, "weight", None, "share of contended processors, 1 to 10000"
    yield "allowed_cpus", "AllowedCPUs", _cpus, "cpus", None, "processors the job may run on"
    yield "allowed_memory_nodes", "AllowedMemoryNodes", _cpus, "cpus", None, "NUMA nodes the job's memory may come from"
    yield "io_weight", "IOWeight", _weight, "weight", None, "share of contended disks, 1 to 10000"
    yield "io_read_bandwidth_max", "IOReadBandwidthMax", _bandwidth, "devices", None, "bytes per second read from a device"
    yield "io_write_bandwidth_max", "IOWriteBandwidthMax", _bandwidth, "devices", None, "bytes per second written to a device"
    yield "io_read_iops_max", "IOReadIOPSMax", _iops, "devices", None, "reads per second from a device"
    yield "io_write_iops_max", "IOWriteIOPSMax", _iops, "devices", None, "writes per second to a device"
    yield "output_max", "OutputMax", _size, "bytes", None, "bytes on stdout and stderr together"
    yield "disk_max", "DiskMax", _size, "bytes", None, "bytes of files the job may keep in its private file systems"
    yield "limit_cpu", "LimitCPU", _rlimit_of(_seconds), "s", 0, "RLIMIT_CPU: processor time of each process"
    yield "limit_fsize", "LimitFSIZE", _rlimit_of(_size), "bytes", 1, "RLIMIT_FSIZE: size of a file it writes"
    yield "limit_data", "LimitDATA", _rlimit_of(_size), "bytes", 2, "RLIMIT_DATA: data segment of each process"
    yield "limit_stack", "LimitSTACK", _rlimit_of(_size), "bytes", 3, "RLIMIT_STACK: stack of each process"
    yield "limit_core", "LimitCORE", _rlimit_of(_size), "bytes", 4, "RLIMIT_CORE: size of a core dump"
    yield "limit_rss", "LimitRSS", _rlimit_of(_size), "bytes", 5, "RLIMIT_RSS: no effect on Linux, passed on"
    yield "limit_nproc", "LimitNPROC", _rlimit_of(_count), "count", 6, "RLIMIT_NPROC: processes of the user, host-wide"
    yield "limit_nofile", "LimitNOFILE", _rlimit_of(_count), "count", 7, "RLIMIT_NOFILE: open descriptors of each process"
    yield "limit_memlock", "LimitMEMLOCK", _rlimit_of(_size), "bytes", 8, "RLIMIT_MEMLOCK: locked memory of each process"
    yield "limit_as", "LimitAS", _rlimit_of(_size), "bytes", 9, "RLIMIT_AS: address space of each process"
    yield "limit_locks", "LimitLOCKS", _rlimit_of(_count), "count", 10, "RLIMIT_LOCKS: no effect on Linux, passed on"
    yield "limit_sigpending", "LimitSIGPENDING", _rlimit_of(_count), "count", 11, "RLIMIT_SIGPENDING: queued signals of the user"
    yield "limit_msgqueue", "LimitMSGQUEUE", _rlimit_of(_size), "bytes", 12, "RLIMIT_MSGQUEUE: POSIX message queues of the user"
    yield "limit_nice", "LimitNICE", _rlimit_of(_nice), "nice", 13, "RLIMIT_NICE: how far nice may be lowered"
    yield "limit_rtprio", "LimitRTPRIO", _rlimit_of(_count), "count", 14, "RLIMIT_RTPRIO: real-time priority"
    yield "limit_rttime", "LimitRTTIME", _rlimit_of(_microseconds), "us", 15, "RLIMIT_RTTIME: real-time processor time without blocking"


def _table() -> dict[str, LimitKind]:
    return {
        name: LimitKind(name=name, directive=directive, parse=parse, unit=unit, rlimit=rlimit, help=text)
        for name, directive, parse, unit, rlimit, text in _rows()
    }


LIMITS: Final[Mapping[str, LimitKind]] = _table()
