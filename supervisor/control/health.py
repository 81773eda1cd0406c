# SPDX-License-Identifier: Apache-2.0
"""Health: from single answers of a check to healthy or not. Pure."""

from __future__ import annotations

from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.check import Health


@value
class Condition:
    """``healthy`` is None before the first answer that counts; ``failures``: in a row so far."""

    up_since_ns: int
    healthy: bool | None = None
    failures: int = 0
    begun: bool = False  # it has answered well once: the start period is over


def observe(health: Health, condition: Condition, good: bool, now_ns: int) -> Condition:
    """Take one answer."""
    if good:
        return replace(condition, healthy=True, failures=0, begun=True)
    if not condition.begun and now_ns - condition.up_since_ns < health.start_period_sec * 1e9:
        return condition
    failures = condition.failures + 1
    return replace(condition, failures=failures, healthy=False if failures >= health.retries else condition.healthy)
