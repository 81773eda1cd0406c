# SPDX-License-Identifier: Apache-2.0
"""Converted: what another tool's configuration comes to as a profile, and what of it cannot be carried over."""

from __future__ import annotations

from supervisor.model.limit_kinds import LIMITS
from supervisor.model.policy.text import Entry, format_profile, limit_text
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@value
class Converted:
    """``limits`` and ``sandbox`` hold their keys with what each was made from; ``lost`` says what nobody made anything of."""

    source: str
    limits: tuple[Entry, ...] = ()
    sandbox: tuple[Entry, ...] = ()
    lost: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """The policy file, with what was lost as comments above the profile."""
        remarks = [f"Converted from {self.source}."]
        if self.lost:
            remarks += ["Not carried over:", *(f"- {item}" for item in self.lost)]
        return format_profile(name, self.limits, self.sandbox, remarks)


class Conversion:
    """One conversion under way: what was made so far, and what was lost."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lost: list[str] = []
        self._limits: dict[str, Entry] = {}
        self._sandbox: dict[str, Entry] = {}

    def limit(self, name: str, given: Any, reason: str) -> None:
        """Set a limit from any spelling; a value that is none of ours is lost, with the reason why."""
        try:
            self.amount(name, LIMITS[name].parse(given), reason)
        except ValueError as error:
            self.lost.append(f"{reason}: {error}")

    def amount(self, name: str, amount: Any, reason: str) -> None:
        """Set a limit to a normalised value, as :class:`Limits` holds it."""
        shown: Any = limit_text(name, amount)
        if LIMITS[name].unit == "devices":
            shown = [str(item) for item in amount]
        elif shown.isdecimal():
            shown = int(shown)
        self._limits[name] = Entry(key=name, item=shown, reason=reason)

    def unset(self, name: str) -> None:
        """Forget a limit, as an empty assignment of systemd's does."""
        self._limits.pop(name, None)

    def world(self, key: str, item: Any, reason: str) -> None:
        """Set a key of the sandbox."""
        self._sandbox[key] = Entry(key=key, item=item, reason=reason)

    def result(self) -> Converted:
        return Converted(
            source=self.source,
            limits=tuple([self._limits[name] for name in LIMITS if name in self._limits]),
            sandbox=tuple(self._sandbox.values()),
            lost=tuple(self.lost),
        )
