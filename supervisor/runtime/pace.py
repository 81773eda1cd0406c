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
    """The time for which one reader has not waited.

    A read that finds something does not wait, and so the event loop does not run. Whoever fills a pipe or a ring as fast as it
    is read would stop everything else of this loop, time limits around the reading among it.
    """

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        self._since_ns = 0  # 0: it has waited since it last read

    def is_over(self) -> bool:
        """It is time to give way, which the caller does now; asked before each read."""
        now_ns = monotonic_ns()
        if self._since_ns and now_ns - self._since_ns < TURN_NS:
            return False
        is_first, self._since_ns = self._since_ns == 0, now_ns
        return not is_first

    def waited(self) -> None:
        """The reader had to wait, and the event loop ran."""
        self._since_ns = 0
