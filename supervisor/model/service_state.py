# SPDX-License-Identifier: Apache-2.0
"""Where a service is and what its last run came to, in systemd's words."""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from supervisor.model.outcome import Outcome


class ServiceState:
    """``inactive`` → ``activating`` → ``active`` ⇄ ``reloading`` → ``deactivating`` → ``inactive``, or ``failed``.

    A service that waits for its next start is ``activating``.
    """

    INACTIVE: Final = "inactive"
    ACTIVATING: Final = "activating"
    ACTIVE: Final = "active"
    RELOADING: Final = "reloading"
    DEACTIVATING: Final = "deactivating"
    FAILED: Final = "failed"

    ALL: Final = (INACTIVE, ACTIVATING, ACTIVE, RELOADING, DEACTIVATING, FAILED)
    #: Nothing happens until somebody asks for it.
    ENDED: Final = frozenset({INACTIVE, FAILED})
    #: Ready for those who need it.
    UP: Final = frozenset({ACTIVE, RELOADING})


class ServiceResult:
    """Why the last run ended; systemd's Result= words, ``health``, ``limit`` and ``dependency`` are ours."""

    SUCCESS: Final = "success"
    EXIT_CODE: Final = "exit-code"
    SIGNAL: Final = "signal"
    CORE_DUMP: Final = "core-dump"
    TIMEOUT: Final = "timeout"
    WATCHDOG: Final = "watchdog"
    OOM_KILL: Final = "oom-kill"
    PROTOCOL: Final = "protocol"
    RESOURCES: Final = "resources"
    START_LIMIT_HIT: Final = "start-limit-hit"
    HEALTH: Final = "health"
    LIMIT: Final = "limit"
    DEPENDENCY: Final = "dependency"

    ALL: Final = (
        SUCCESS,
        EXIT_CODE,
        SIGNAL,
        CORE_DUMP,
        TIMEOUT,
        WATCHDOG,
        OOM_KILL,
        PROTOCOL,
        RESOURCES,
        START_LIMIT_HIT,
        HEALTH,
        LIMIT,
        DEPENDENCY,
    )


@value
class Ending:
    """What one run of a service came to: the word for it, and the outcome of the command that decided.

    ``error_number``: the errno when our own work failed before there was an outcome, 0 otherwise.
    """

    result: str
    outcome: Outcome | None = None
    message: str = ""
    error_number: int = 0


def combined_state(states: Iterable[str]) -> str:
    """One word for all replicas: what is under way first, then what is broken; no replica at all is ``inactive``."""
    found = set(states)
    for state in (
        ServiceState.DEACTIVATING,
        ServiceState.ACTIVATING,
        ServiceState.FAILED,
        ServiceState.RELOADING,
        ServiceState.ACTIVE,
    ):
        if state in found:
            return state
    return ServiceState.INACTIVE
