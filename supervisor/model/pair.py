# SPDX-License-Identifier: Apache-2.0
"""PairOutcome: what two jobs that talk to each other came to, and whose end explains it."""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.outcome import Outcome

FIRST: Final = "first"
SECOND: Final = "second"
SIGPIPE: Final = 13


@value
class PairOutcome:
    """The outcomes of both jobs of a pair, each with its own verdict.

    ``ended_first``: the job that ended first, ``first`` or ``second``, by the time at which the supervisor
    decided to end it or its main process was reaped (CLOCK_MONOTONIC); None when one of them never ran. Two
    ends of their own within a millisecond may be told the other way round: a process closes its pipes
    before it can be reaped.
    """

    first: Outcome
    second: Outcome
    ended_first: str | None = None

    @property
    def ok(self) -> bool:
        """Both ended well."""
        return self.first.ok and self.second.ok

    @property
    def blamed(self) -> str | None:
        """The job whose end explains a pair that is not ok: ``first`` or ``second``, None for nobody.

        SIGPIPE is what the other's leaving does to a writer, so it is blamed for nothing: not before the
        other's bad end, even if it was reaped earlier, and not after the other's good one. Of two bad ends
        the earlier one counts.
        """
        bad = [name for name in (FIRST, SECOND) if not self._outcome(name).ok and self._outcome(name).exit.signal != SIGPIPE]
        if len(bad) == 2 and self.ended_first is not None:
            return self.ended_first
        return bad[0] if bad else None

    def _outcome(self, name: str) -> Outcome:
        return self.first if name == FIRST else self.second

    def to_dict(self, *, streams: bool = False) -> dict[str, Any]:
        """The pair as JSON-ready data."""
        return {
            "version": 1,
            "first": self.first.to_dict(streams=streams),
            "second": self.second.to_dict(streams=streams),
            "ended_first": self.ended_first,
            "blamed": self.blamed,
        }
