# SPDX-License-Identifier: Apache-2.0
"""Pace: when a reader whose source never runs dry lets its event loop go on."""

from __future__ import annotations

from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: So long a reader may go on without the event loop: one turn of it is a hundredth of that.
TURN_NS: Final = 2_000_000


class Pace:
    """The time since one reader last gave way.

    A read that finds something does not wait, and so the event loop does not run. Whoever fills a pipe or a ring as fast as it
    is read would stop everything else of this loop, time limits around the reading among it.
    """

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        self._since_ns = 0

    def is_over(self) -> bool:
        """It is time to give way, which the caller does now."""
        now_ns = monotonic_ns()
        if now_ns - self._since_ns < TURN_NS:
            return False
        self._since_ns = now_ns
        return True
