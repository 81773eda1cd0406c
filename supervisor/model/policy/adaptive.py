# SPDX-License-Identifier: Apache-2.0
"""Adaptive bounds: how far a limit may be moved while a job runs.

They are read and checked here and kept with the policy. Nothing moves a limit in this version; the bounds
are for the governor that will.
"""

from __future__ import annotations

from supervisor.model.enforce import CGROUP_FILES
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import show_limit
from supervisor.model.spelling import limit_name, nearest
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

#: Limits that the kernel changes in place for a running job and that are one amount.
ADAPTABLE: Final = tuple(name for name in CGROUP_FILES if LIMITS[name].unit not in ("devices", "cpus") and name != "cpu_quota_period")


@value
class Bounds:
    """The least and the greatest value a limit may be given; both may be shares of the host."""

    min: Any
    max: Any


def parse_bounds(key: str, given: object, nearest: Callable[[str, Iterable[str]], str] = nearest) -> tuple[str, Bounds]:
    """The limit's name and its bounds from ``{ min = ..., max = ... }``; raises ``ValueError``."""
    name = limit_name(key)
    if name is None:
        raise ValueError(f"is not a limit{nearest(key, ADAPTABLE)}")
    if name not in ADAPTABLE:
        raise ValueError(f"cannot be changed while a job runs; there are {', '.join(ADAPTABLE)}")
    if not isinstance(given, dict) or set(given) != {"min", "max"}:
        raise ValueError("must be { min = ..., max = ... }")
    read = {}
    for end in ("min", "max"):
        try:
            read[end] = LIMITS[name].parse(given[end])
        except ValueError as error:
            raise ValueError(f"{end}: {error}") from None
    bounds = Bounds(**read)
    if exceeds(bounds.min, bounds.max):
        raise ValueError(f"min {show_limit(name, bounds.min)} is above max {show_limit(name, bounds.max)}")
    return name, bounds


def exceeds(a: Any, b: Any) -> bool:
    """Whether ``a`` is more than ``b``; False when only the host can tell."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a > b
    both = getattr(a, "ppm", None), getattr(b, "ppm", None)
    return None not in both and both[0] > both[1]  # type: ignore[operator]
