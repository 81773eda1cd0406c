# SPDX-License-Identifier: Apache-2.0
"""Spelling: which limit a word means, which right word a wrong one is nearest to, and how strange text is shown."""

from __future__ import annotations

from supervisor.model.limit_kinds import LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

DIRECTIVES: Final = {kind.directive: name for name, kind in LIMITS.items()}
#: systemd's directives in snake_case, where our name is another.
ALIASES: Final = {"runtime_max_sec": "wall_time_max", "cpu_quota_period_sec": "cpu_quota_period"}


def limit_name(given: str) -> str | None:
    """The limit that ``given`` spells: ``memory_max``, ``memory-max`` or ``MemoryMax``; None for none."""
    name = given.replace("-", "_")
    return name if name in LIMITS else DIRECTIVES.get(given) or ALIASES.get(name)


def nearest(given: str, names: Iterable[str]) -> str:
    """``; did you mean ...?`` for the closest name, or nothing."""
    import difflib

    close = difflib.get_close_matches(given[:80], list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def visible(text: str) -> str:
    """Text of somebody else's for a terminal: what would move the cursor, change colours or turn the line round is escaped."""
    return text if text.isprintable() else "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])
