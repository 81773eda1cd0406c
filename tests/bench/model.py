# SPDX-License-Identifier: Apache-2.0
"""What a benchmark is made of: contenders, the keys they print, and the budgets those are held against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

#: The checkout: contenders run in it, so that ``tests.bench`` and ``supervisor`` can be imported.
CHECKOUT = Path(__file__).resolve().parents[2]


class NotHere(Exception):
    """A contender cannot take part on this host; the text says why."""


class Better(Enum):
    """Which way a key is good."""

    HIGHER = "higher"
    LOWER = "lower"


class Role(Enum):
    """LIMIT: what the machine can do. OURS: judged; its failure fails the run. PEER: somebody else's."""

    LIMIT = "limit"
    OURS = "ours"
    PEER = "peer"


@dataclass(frozen=True)
class Contender:
    """A command that prints lines ``key value unit``."""

    name: str
    argv: tuple[str, ...]
    role: Role = Role.PEER
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """``ours``'s median of ``key`` must stay within ``factor`` times that of ``reference`` (or within ``factor`` itself).

    ``must``: missing it is a fault; otherwise it is an aim.
    """

    must: bool
    key: str
    factor: float
    reference: str = ""
    ours: str = "ours"


@dataclass
class Section:
    """One table: contenders that do the same work. The first LIMIT and the first OURS are what ratios refer to."""

    title: str
    keys: Mapping[str, Better]
    budgets: Sequence[Budget] = ()
    rounds: int | None = None
    """Overrides the number of rounds; such a section warms up by itself, so it gets no warm-up round."""
    timeout: float = 120
    """Seconds for one contender in one round; whoever needs more has failed."""
    contenders: list[Contender] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Sequence[str]], role: Role = Role.PEER, **env: str) -> None:
        """Let a contender take part, or note why it cannot."""
        try:
            self.contenders.append(Contender(name, tuple(make()), role, env))
        except NotHere as reason:
            self.missing[name] = str(reason)

    def first(self, role: Role) -> str:
        """Name of the first contender in this role, or nothing."""
        return next((contender.name for contender in self.contenders if contender.role is role), "")


@dataclass(frozen=True)
class Setting:
    """What the command line asked for."""

    quick: bool
    many: int

    def count(self, full: int) -> str:
        """How often to repeat, as an argument for a contender."""
        return str(max(10, full // 10) if self.quick else full)


def peer(module: str, *words: object) -> tuple[str, ...]:
    """Command line of one of the Python contenders in ``peers/``."""
    return (sys.executable, "-m", f"tests.bench.peers.{module}", *map(str, words))
