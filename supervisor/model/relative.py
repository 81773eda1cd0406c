# SPDX-License-Identifier: Apache-2.0
"""Relative limits: shares of the host and ``auto`` become amounts, when the host is known and not before.

So one policy file serves a laptop and a server, and parsing it stays pure.
"""

from __future__ import annotations

from supervisor.model.limit_kinds import Auto, Least, Percent
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.host import Host
    from supervisor.model.limits import Limits

_WHOLE: Final = 1_000_000
#: What ``auto`` means, in words for people; :func:`_auto` is the rule itself.
AUTO_WORDS: Final = {
    "memory_max": "75% of the host's memory: the rest is for the host itself",
    "memory_high": "90% of memory_max, which is taken as auto when it is not set: reclaim begins before the end",
    "tasks_max": "15% of the host's pid_max, systemd's DefaultTasksMax",
    "cpu_quota": "every processor of the host but one, and one on a host that has no other",
}


def resolve_relative(limits: Limits, host: Host) -> Limits:
    """The limits with every share, ``auto`` and :class:`Least` as an amount of ``host``."""
    changes = {
        name: _amount(name, amount, limits, host) for name, amount in limits.given().items() if isinstance(amount, (Percent, Auto, Least))
    }
    return replace(limits, **changes) if changes else limits


def _amount(name: str, given: Any, limits: Limits, host: Host) -> Any:
    if isinstance(given, Least):
        amounts = [_amount(name, item, limits, host) for item in given.of]
        return min(amounts, key=lambda amount: amount.ppm if isinstance(amount, Percent) else amount)
    if isinstance(given, Auto):
        return _auto(name, limits, host)
    if isinstance(given, Percent) and name != "cpu_quota":  # a quota is a share of time, whatever the host
        return max(1, (host.tasks_total if name == "tasks_max" else host.memory_total_bytes) * given.ppm // _WHOLE)
    return given


def _auto(name: str, limits: Limits, host: Host) -> Any:
    if name == "cpu_quota":
        return Percent(ppm=max(1, host.processors - 1) * _WHOLE)
    if name == "tasks_max":
        return max(1, host.tasks_total * 15 // 100)
    memory_max = _whole_mib(host.memory_total_bytes * 75 // 100)
    if name == "memory_max":
        return memory_max
    cap = limits.memory_max
    if isinstance(cap, (Percent, Least)):
        cap = _amount("memory_max", cap, limits, host)
    return _whole_mib(int(cap if isinstance(cap, int) else memory_max) * 90 // 100)


def _whole_mib(amount: int) -> int:
    return amount >> 20 << 20 or max(1, amount)
