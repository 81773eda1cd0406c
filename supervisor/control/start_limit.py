# SPDX-License-Identifier: Apache-2.0
"""Start limit: at most ``start_limit_burst`` starts within ``start_limit_interval_sec``. Pure.

systemd's ratelimit_below(): a window opens with a start and closes an interval later. Whoever starts a service by hand begins
with a fresh :class:`StartLimit`.
"""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.service import ServiceSpec


@value
class StartLimit:
    """When the present window opened (CLOCK_MONOTONIC nanoseconds) and how many starts it has seen."""

    opened_ns: int | None = None
    starts: int = 0


def may_start(spec: ServiceSpec, limit: StartLimit, now_ns: int) -> tuple[StartLimit, bool]:
    """Count a start: the new state and whether it is allowed. No interval or no burst: no limit."""
    if spec.start_limit_interval_sec == 0 or spec.start_limit_burst == 0:
        return limit, True
    if limit.opened_ns is None or now_ns - limit.opened_ns > spec.start_limit_interval_sec * 1e9:
        return StartLimit(opened_ns=now_ns, starts=1), True
    if limit.starts < spec.start_limit_burst:
        return StartLimit(opened_ns=limit.opened_ns, starts=limit.starts + 1), True
    return limit, False
