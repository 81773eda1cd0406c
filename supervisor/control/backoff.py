# SPDX-License-Identifier: Apache-2.0
"""Backoff: how long to wait before the next start. Pure.

systemd's ``RestartSec=``, ``RestartSteps=`` and ``RestartMaxDelaySec=`` (service_restart_usec_next() of systemd 257): delays grow
geometrically from the first to the last in that many steps. Two things are ours: a jitter, so that services which fell
together do not rise together, and a reset after a run that stayed up, without which delays only ever grow (systemd issue 43813).
"""

from __future__ import annotations

from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.service import ServiceSpec


@value
class Backoff:
    """Restarts in a row so far, and since when the present run is up (CLOCK_MONOTONIC nanoseconds, None: it is not)."""

    restarts: int = 0
    up_since_ns: int | None = None


def became_up(backoff: Backoff, now_ns: int) -> Backoff:
    """The run is ready."""
    return replace(backoff, up_since_ns=now_ns)


def next_delay(spec: ServiceSpec, backoff: Backoff, now_ns: int, draw: float) -> tuple[Backoff, int]:
    """The delay before the next start in nanoseconds; ``draw`` is a random number from 0 up to, not including, 1."""
    restarts = backoff.restarts
    if backoff.up_since_ns is not None and now_ns - backoff.up_since_ns >= spec.restart_reset_sec * 1e9:
        restarts = 0
    seconds = step_delay(spec, restarts + 1) + spec.restart_jitter_sec * draw
    return Backoff(restarts=restarts + 1), round(seconds * 1e9)


def step_delay(spec: ServiceSpec, restart: int) -> float:
    """Seconds before the ``restart``-th restart in a row, counted from 1, without jitter."""
    first: float = spec.restart_sec
    last: float = spec.restart_max_delay_sec
    if restart <= 1 or spec.restart_steps == 0 or first == 0 or last == INFINITY or first >= last:
        return first
    if restart > spec.restart_steps:
        return last
    return float(min(last, first * (last / first) ** ((restart - 1) / spec.restart_steps)))
