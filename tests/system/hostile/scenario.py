# SPDX-License-Identifier: Apache-2.0
"""One hostile scenario: a program or a play, what must come of it, and who sees to that."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor import Outcome

MIB = 1 << 20
#: Processor time a job may have used above its limit while others are at work: the delay of the supervisor's wake-up, on two
#: processors, longer on emulated ones.
CPU_SLACK_NS = 4_000_000_000 if os.environ.get("RINGFENCE_VM") == "1" else 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A row of the table.

    ``number``: of the research note's list. ``program``: a file of programs/, run with ``args``, in which ``{WORK}``,
    ``{CANARY}`` and such stand for what the stage has made; or ``play``: a function of plays.py. ``refuses``: at least so
    many attempts must have been refused; whatever a program says, it must not say that it escaped. ``hits``: must be in
    ``limits_hit``. ``by``: who enforces it, for the page. ``alone``: not beside others.
    """

    number: int
    does: str
    by: str
    program: str = ""
    args: tuple[str, ...] = ()
    play: str = ""
    verdicts: tuple[str, ...] = ("ok",)
    limits: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[str, ...] = ("strict",)
    refuses: int = 0
    hits: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    proof: Callable[[Outcome], None] | None = None
    alone: bool = False

    @property
    def name(self) -> str:
        """What the row is called in tests: its number, its program or play, and its arguments' first word."""
        words = [self.play or self.program.partition(".")[0], *[word for word in self.args[:2] if word.isalnum()]]
        return f"{self.number:02}-{'-'.join(words)}"


def require(truth: object, outcome: Outcome) -> None:
    """Fail with the outcome."""
    assert truth, (outcome.summary(), outcome)


def printed(text: str) -> Callable[[Outcome], None]:
    """A proof: the program printed this."""

    def proof(outcome: Outcome) -> None:
        assert outcome.stdout is not None and text.encode() in outcome.stdout, (text, outcome.stdout, outcome.stderr)

    return proof


def ended(*, code: int | None = None, signal: int | None = None) -> Callable[[Outcome], None]:
    """A proof: the main process ended so."""

    def proof(outcome: Outcome) -> None:
        require((outcome.exit.code, outcome.exit.signal) == (code, signal), outcome)

    return proof
