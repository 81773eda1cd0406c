# SPDX-License-Identifier: Apache-2.0
"""Profile: one ``[profile.NAME]`` table as its author wrote it, read key by key, with every problem found."""

from __future__ import annotations

from supervisor.model.limit_kinds import LIMITS
from supervisor.model.policy.adaptive import parse_bounds
from supervisor.model.policy.given import Given, Origin
from supervisor.model.policy.problem import Problem
from supervisor.model.spelling import limit_name, nearest
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

    from supervisor.model.policy.positions import Path, Positions

#: Keys of a profile that are no limits.
OTHER_KEYS: Final = ("extends", "best_effort", "description", "sandbox", "adaptive")
#: What a profile's name is made of: it goes behind ``#`` and on command lines.
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
NAME_MAX: Final = 100


@value
class Profile:
    """What one table says itself; ``extends`` is not resolved. ``problems`` is empty when all of it is right."""

    name: str
    origin: Origin
    limits: Mapping[str, Given] = {}
    sandbox: Mapping[str, Given] = {}
    adaptive: Mapping[str, Given] = {}
    best_effort: Mapping[str, Given] = {}
    description: str = ""
    extends: Given | None = None
    problems: tuple[Problem, ...] = ()


class Suggestions:
    """How many wrong words of one file still get the nearest right one: comparing takes a millisecond each."""

    def __init__(self, left: int = 100) -> None:
        self._left = left

    def nearest(self, given: str, names: Iterable[str]) -> str:
        """As :func:`nearest`, or nothing when there were too many already."""
        self._left -= 1
        return nearest(given, names) if self._left >= 0 else ""


def read_profile(name: str, table: Any, file: str, positions: Positions, suggestions: Suggestions) -> Profile:
    """One profile from its table as tomllib gives it. Total: what is wrong is in ``problems``."""
    return _Reading(name, file, positions, suggestions).profile(table)


class _Reading:
    """One table while it is read: where it stands, and what was wrong so far."""

    def __init__(self, name: str, file: str, positions: Positions, suggestions: Suggestions) -> None:
        self._nearest = suggestions.nearest
        self._name = name
        self._file = file
        self._positions = positions
        self._problems: list[Problem] = []

    def profile(self, table: Any) -> Profile:
        origin = self._origin()
        if not self._name or len(self._name) > NAME_MAX or not NAME_CHARACTERS.issuperset(self._name):
            self._wrong((), f"profile.{self._name[:60]}", "a name is made of letters, digits, '_', '-' and '.', at most 100 of them")
        if not isinstance(table, dict):
            self._wrong((), f"profile.{self._name[:60]}", "must be a table")
            table = {}
        limits = self._limits(table)
        read = {
            "limits": limits,
            "sandbox": self._sandbox(table),
            "adaptive": self._adaptive(table),
            "best_effort": self._best_effort(table),
            "description": self._text(table, "description", ""),
            "extends": self._extends(table),
        }
        return Profile(name=self._name, origin=origin, problems=tuple(self._problems), **read)

    def _origin(self, *keys: str | int) -> Origin:
        path: Path = ("profile", self._name, *keys)
        return Origin(file=self._file, line=self._positions.line(path), profile=self._name)

    def _wrong(self, keys: tuple[str | int, ...], key: str, message: str) -> None:
        self._problems.append(Problem(file=self._file, line=self._origin(*keys).line, key=key, message=message))

    def _limits(self, table: dict[str, Any]) -> dict[str, Given]:
        limits: dict[str, Given] = {}
        for key, item in table.items():
            limit = limit_name(key)
            if key in OTHER_KEYS:
                continue
            if limit is None:
                self._wrong((key,), key[:60], f"unknown key{self._nearest(key, [*LIMITS, *OTHER_KEYS])}")
            elif limit in limits:
                self._wrong((key,), key, f"says {limit} a second time; the first is in line {limits[limit].origin.line}")
            else:
                try:
                    limits[limit] = Given(amount=LIMITS[limit].parse(item), origin=self._origin(key))
                except ValueError as error:
                    self._wrong((key,), key, str(error))
        return limits

    def _best_effort(self, table: dict[str, Any]) -> dict[str, Given]:
        given = table.get("best_effort", [])
        if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
            self._wrong(("best_effort",), "best_effort", "must be a list of names of limits")
            return {}
        named: dict[str, Given] = {}
        for number, item in enumerate(given):
            limit = limit_name(item)
            if limit is None:
                self._wrong(("best_effort", number), "best_effort", f"{item[:60]!r} is not a limit{self._nearest(item, LIMITS)}")
            else:
                named[limit] = Given(amount=True, origin=self._origin("best_effort", number))
        return named

    def _adaptive(self, table: dict[str, Any]) -> dict[str, Given]:
        given = table.get("adaptive", {})
        if not isinstance(given, dict):
            self._wrong(("adaptive",), "adaptive", "must be a table of limits, each with { min = ..., max = ... }")
            return {}
        read: dict[str, Given] = {}
        for key, item in given.items():
            try:
                name, bounds = parse_bounds(key, item, self._nearest)
            except ValueError as error:
                self._wrong(("adaptive", key), f"adaptive.{key[:60]}", str(error))
                continue
            read[name] = Given(amount=bounds, origin=self._origin("adaptive", key))
        return read

    def _sandbox(self, table: dict[str, Any]) -> dict[str, Given]:
        """The known keys as they are written; what they come to is known when the chain is."""
        given = table.get("sandbox", {})
        if not isinstance(given, dict):
            self._wrong(("sandbox",), "sandbox", "must be a table")
            return {}
        if not given:
            return {}
        from supervisor.model.policy.sandbox_table import SANDBOX_KEYS, sandbox_problems

        for key in given:
            if key not in SANDBOX_KEYS:
                self._wrong(("sandbox", key), f"sandbox.{key[:60]}", f"unknown key{self._nearest(key, SANDBOX_KEYS)}")
        known = {key: item for key, item in given.items() if key in SANDBOX_KEYS}
        wrong = list(sandbox_problems(known))
        for key, message in wrong:
            self._wrong(("sandbox", key), f"sandbox.{key}", message)
        return {key: Given(amount=item, origin=self._origin("sandbox", key)) for key, item in known.items() if key not in dict(wrong)}

    def _extends(self, table: dict[str, Any]) -> Given | None:
        text = self._text(table, "extends", None)
        if text == "":
            self._wrong(("extends",), "extends", "names no profile; leave the key out")
        return Given(amount=text, origin=self._origin("extends")) if text else None

    def _text(self, table: dict[str, Any], key: str, default: Any) -> Any:
        given = table.get(key, default)
        if given is default or isinstance(given, str):
            return given
        self._wrong((key,), key, f"must be a text, not {_toml_word(given)}")
        return default


def _toml_word(given: object) -> str:
    words = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "a table"}
    return words.get(type(given), "a date or a time")
