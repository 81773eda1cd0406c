# SPDX-License-Identifier: Apache-2.0
"""Recovery: which failures another attempt, or other limits, can mend. Pure.

A start that failed for a passing reason of the host is tried again; one that would fail in the same way is not. A run that
broke its memory limit gets more the next time, as far as its policy allows. Everything else is left to :mod:`.restart`.
"""

from __future__ import annotations

import errno

from supervisor.model.outcome import Verdict
from supervisor.model.service_state import ServiceResult
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.limits import Limits
    from supervisor.model.service import Recovery, ServiceSpec
    from supervisor.model.service_state import Ending

#: Conditions of the host that pass: too many processes or descriptors, no memory, a resource in use, an interrupted call.
TRANSIENT: Final = frozenset(
    {
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.EINTR,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOBUFS,
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
#: Steps whose failure says that the specification is wrong, whatever the errno.
PERMANENT_STAGES: Final = frozenset({"plan", "cgroup_verify"})

RETRY, GIVE_UP, GROW, DEFER = "retry", "give_up", "grow", "defer"


@value
class Remedy:
    """``action``: ``retry`` the same, ``grow`` the limits and start again, ``give_up``, or ``defer`` to the restart policy."""

    action: str
    limits: Limits | None = None  # of the next run
    reason: str = ""


def is_transient(stage: str, number: int) -> bool:
    """A start that failed at ``stage`` with errno ``number`` may succeed when it is tried again."""
    return number in TRANSIENT and stage not in PERMANENT_STAGES


def find_remedy(spec: ServiceSpec, ending: Ending, limits: Limits, failed_starts: int) -> Remedy:
    """Decide after a run under ``limits``; ``failed_starts``: how many starts in a row had failed before this one."""
    outcome = ending.outcome
    if ending.result == ServiceResult.RESOURCES and (outcome is None or outcome.verdict == Verdict.START_FAILED):
        return _after_failed_start(spec.recovery, ending, failed_starts)
    if outcome is None or outcome.verdict != Verdict.MEMORY_LIMIT or spec.recovery.memory_factor <= 1 or spec.restart_on_limit is False:
        return Remedy(action=DEFER)
    grown = grow_memory(spec.recovery, limits)
    if grown is None:
        return Remedy(action=DEFER, reason="memory_limit: no limit may grow any more")
    return Remedy(action=GROW, limits=grown, reason=f"memory_limit: {spec.recovery.memory_factor:g} times the memory")


def _after_failed_start(recovery: Recovery, ending: Ending, failed_starts: int) -> Remedy:
    outcome = ending.outcome
    error = None if outcome is None else outcome.error
    stage, number = (error.stage, error.errno) if error is not None else ("", ending.error_number)
    too_small = outcome is not None and bool(outcome.limits_hit)  # its own limits leave no room for the program
    if too_small or not is_transient(stage, number):
        return Remedy(action=GIVE_UP, reason="the start would fail again in the same way")
    if failed_starts >= recovery.start_retries:
        return Remedy(action=GIVE_UP, reason=f"{failed_starts + 1} starts in a row have failed")
    return Remedy(action=RETRY, reason="a passing condition of the host")


def grow_memory(recovery: Recovery, limits: Limits) -> Limits | None:
    """The limits with more memory, or None when nothing may grow any more; shares of the host stay as they are."""
    grown = {}
    for name in ("memory_max", "memory_high"):
        amount = getattr(limits, name)
        if isinstance(amount, int):
            more = int(min(amount * recovery.memory_factor, recovery.memory_ceiling))
            if more > amount:
                grown[name] = more
    return replace(limits, **grown) if grown else None
