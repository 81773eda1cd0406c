# SPDX-License-Identifier: Apache-2.0
"""Restart: what the end of a run means, and whether another run follows. Pure.

The table of systemd.service(5), "Restart=", and service_shall_restart() of systemd 257: a prevented status beats a forced one,
both beat ``restart``.
"""

from __future__ import annotations

from supervisor.model.outcome import Verdict
from supervisor.model.service import SIGNALS, signal_number
from supervisor.model.service_state import Ending, ServiceResult
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from supervisor.model.outcome import Exit, Outcome
    from supervisor.model.service import ServiceSpec

#: A process that ends on one of these was asked to: a clean end, except for a oneshot.
CLEAN_SIGNALS: Final = frozenset(SIGNALS[name] for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"))
SIGKILL: Final = SIGNALS["SIGKILL"]

_FAILED: Final = frozenset(ServiceResult.ALL) - {ServiceResult.SUCCESS}
#: Which results each policy restarts after.
RESTARTED: Final = {
    "no": frozenset[str](),
    "on-success": frozenset({ServiceResult.SUCCESS}),
    "on-failure": _FAILED,
    "on-abnormal": _FAILED - {ServiceResult.EXIT_CODE},
    "on-abort": frozenset({ServiceResult.SIGNAL, ServiceResult.CORE_DUMP}),
    "on-watchdog": frozenset({ServiceResult.WATCHDOG, ServiceResult.HEALTH}),
    "always": frozenset(ServiceResult.ALL),
}
#: Nothing that another start could mend by itself.
FINAL: Final = frozenset({ServiceResult.START_LIMIT_HIT, ServiceResult.DEPENDENCY})
#: Verdicts that have a word of systemd's own.
_WORD_OF: Final = {
    Verdict.MEMORY_LIMIT: ServiceResult.OOM_KILL,
    Verdict.HOST_OOM: ServiceResult.OOM_KILL,
    Verdict.WALL_LIMIT: ServiceResult.TIMEOUT,
    Verdict.START_FAILED: ServiceResult.RESOURCES,
    Verdict.SANDBOX_ERROR: ServiceResult.RESOURCES,
}


@value
class Restart:
    """Whether the service is started again, and why."""

    again: bool
    reason: str


def result_of(spec: ServiceSpec, outcome: Outcome, cause: str = "") -> str:
    """The word for the end of a run.

    ``cause``: why we ended it (``timeout``, ``watchdog``, ``health``, ``protocol``, or ``stop``), empty when it ended by itself.
    """
    if cause not in ("", "stop"):
        return cause
    if outcome.verdict in _WORD_OF:
        return _WORD_OF[outcome.verdict]
    if outcome.verdict in Verdict.LIMITS:
        return ServiceResult.LIMIT
    ended = outcome.exit
    if cause == "stop" and ended.signal == SIGKILL:
        return ServiceResult.TIMEOUT  # it did not go when it was asked to
    if is_clean(spec, ended, stopping=cause == "stop"):
        return ServiceResult.SUCCESS
    if ended.signal is None:
        return ServiceResult.EXIT_CODE
    return ServiceResult.CORE_DUMP if ended.core else ServiceResult.SIGNAL


def is_clean(spec: ServiceSpec, ended: Exit, *, stopping: bool = False) -> bool:
    """A successful end: exit 0, a signal that asks to end, or what ``success_exit_status`` names."""
    if _is_among(spec.success_exit_status, ended) or ended.code == 0:
        return True
    if ended.core or ended.signal is None:
        return False
    return (ended.signal in CLEAN_SIGNALS and spec.type != "oneshot") or (stopping and ended.signal == spec.kill_signal)


def shall_restart(spec: ServiceSpec, ending: Ending) -> Restart:
    """Decide after a run that nobody asked to end."""
    outcome = ending.outcome
    if ending.result in FINAL:
        return Restart(again=False, reason=ending.result)
    if outcome is not None and _is_among(spec.restart_prevent_exit_status, outcome.exit):
        return Restart(again=False, reason="restart_prevent_exit_status")
    if outcome is not None and _is_among(spec.restart_force_exit_status, outcome.exit):
        return Restart(again=True, reason="restart_force_exit_status")
    if outcome is not None and outcome.verdict in Verdict.LIMITS and spec.restart_on_limit is not None:
        return Restart(again=spec.restart_on_limit, reason="restart_on_limit")
    return Restart(again=ending.result in RESTARTED[spec.restart], reason=f"restart={spec.restart}")


def _is_among(statuses: Sequence[int | str], ended: Exit) -> bool:
    """Numbers are exit codes, texts are signals."""
    for status in statuses:
        if isinstance(status, str):
            if ended.signal is not None and ended.signal == signal_number(status):
                return True
        elif ended.signal is None and ended.code == status:
            return True
    return False
