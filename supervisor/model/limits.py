# SPDX-License-Identifier: Apache-2.0
"""Limits: what a job may use, how two sets of limits become one, and how a limit is shown."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS, Auto, Least, Percent, Rlimit
from supervisor.model.units import INFINITY, format_bytes, format_duration
from supervisor.model.value import field_names, replace, set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@value
class Limits:
    """What a job may use; a limit left out is not set, ``"infinity"`` says unlimited.

    Give sizes as bytes or ``"256M"`` (K, M, G, T: powers of 1024), durations as seconds or
    ``"1min 30s"``, shares as ``"50%"``, rlimits as one value or ``"soft:hard"``; ``"auto"`` lets the host
    decide where :mod:`supervisor.model.relative` has a rule. Construction turns them into plain numbers
    (bytes, nanoseconds, counts) and raises :class:`ConfigError` with every problem found. Attributes hold
    the numbers, :class:`Percent`, :class:`Auto`, :class:`Least`, :class:`Rlimit` or :class:`DeviceLimit`
    values, or ``None``.
    """

    cpu_time_max: Any = None
    wall_time_max: Any = None
    idle_time_max: Any = None
    memory_min: Any = None
    memory_low: Any = None
    memory_high: Any = None
    memory_max: Any = None
    memory_swap_max: Any = None
    tasks_max: Any = None
    cpu_quota: Any = None
    cpu_quota_period: Any = None
    cpu_weight: Any = None
    allowed_cpus: Any = None
    allowed_memory_nodes: Any = None
    io_weight: Any = None
    io_read_bandwidth_max: Any = None
    io_write_bandwidth_max: Any = None
    io_read_iops_max: Any = None
    io_write_iops_max: Any = None
    output_max: Any = None
    disk_max: Any = None
    limit_cpu: Any = None
    limit_fsize: Any = None
    limit_data: Any = None
    limit_stack: Any = None
    limit_core: Any = None
    limit_rss: Any = None
    limit_nproc: Any = None
    limit_nofile: Any = None
    limit_memlock: Any = None
    limit_as: Any = None
    limit_locks: Any = None
    limit_sigpending: Any = None
    limit_msgqueue: Any = None
    limit_nice: Any = None
    limit_rtprio: Any = None
    limit_rttime: Any = None

    def _check(self) -> None:
        problems = []
        for name in field_names(Limits):
            given = getattr(self, name)
            if given is None:
                continue
            try:
                set_field(self, name, LIMITS[name].parse(given))
            except ValueError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError(*problems)

    def given(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: amount for name in field_names(Limits) if (amount := getattr(self, name)) is not None}


def show_limit(name: str, amount: Any) -> str:
    """The value of limit ``name`` as a person would write it; reads back to the same value, but for :class:`Least`."""
    unit = LIMITS[name].unit
    if isinstance(amount, Least):
        return "the least of " + " and ".join(show_limit(name, item) for item in amount.of)
    if isinstance(amount, tuple):
        return _show_cpus(amount) if unit == "cpus" else ", ".join(str(item) for item in amount)
    if isinstance(amount, (Percent, Rlimit, Auto)):
        return str(amount)
    if amount == INFINITY:
        return "infinity"
    return format_bytes(amount) if unit == "bytes" else format_duration(amount) if unit == "ns" else str(amount)


def _show_cpus(cpus: tuple[int, ...]) -> str:
    from supervisor.model.cpulist import format_cpu_list  # few jobs name processors

    return format_cpu_list(cpus)


def _tighter(name: str, a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Rlimit):
        return Rlimit(soft=min(a.soft, b.soft), hard=min(a.hard, b.hard))
    if name in ("allowed_cpus", "allowed_memory_nodes"):
        both = tuple(item for item in a if item in b)
        if not both:
            raise ConfigError(f"{name}: {_show_cpus(a)} and {_show_cpus(b)} have nothing in common")
        return both
    if isinstance(a, tuple):
        merged = {limit.path: limit for limit in a}
        for limit in b:
            other = merged.get(limit.path)
            merged[limit.path] = limit if other is None or limit.amount < other.amount else other
        return tuple(merged[path] for path in sorted(merged))
    if isinstance(a, (Percent, Auto, Least)) or isinstance(b, (Percent, Auto, Least)):
        return _least(a, b)
    return min(a, b)


def _least(a: Any, b: Any) -> Any:
    """Shares, ``auto`` and an amount: one of each kind at most, compared when the host is known."""
    items = [part for item in (a, b) for part in (item.of if isinstance(item, Least) else (item,))]
    amounts = [item for item in items if isinstance(item, (int, float)) and item != INFINITY]
    shares = [item.ppm for item in items if isinstance(item, Percent)]
    if 0 in amounts:
        return 0
    kinds = [*([min(amounts)] if amounts else []), *([Percent(ppm=min(shares))] if shares else []), *([Auto()] if Auto() in items else [])]
    return kinds[0] if len(kinds) == 1 else Least(of=tuple(kinds))


def tighten(a: Limits, b: Limits) -> Limits:
    """Both sets of limits at once: of every limit the tighter value; neither is ever loosened.

    Commutative, associative and idempotent. The ban on swap that a memory cap without a word on swap
    implies counts as said, so an allowance of swap from the other side does not lift it. A share and an
    amount are both kept (:class:`Least`) until the host is known. Raises :class:`ConfigError` when the
    two exclude each other (disjoint processor lists).
    """
    both = {name: _tighter(name, getattr(a, name), getattr(b, name)) for name in field_names(Limits)}
    if both["memory_swap_max"] is not None and (_forbids_swap(a) or _forbids_swap(b)):
        both["memory_swap_max"] = 0
    return replace(a, **both)


def _forbids_swap(limits: Limits) -> bool:
    return limits.memory_swap_max is None and limits.memory_max not in (None, INFINITY)
