# SPDX-License-Identifier: Apache-2.0
"""Policy files: named profiles of limits, in TOML. Parsing is pure and reports every problem at once.

A file holds ``[profile.NAME]`` tables with limits under their snake_case names (systemd's CamelCase
is accepted), ``best_effort`` (a list) and ``extends`` (another profile of the file). Problems read
``line: key: what is wrong``.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

OTHER_KEYS: Final = ("extends", "best_effort", "description", "sandbox", "adaptive")
LATER: Final = {"sandbox": "jobs run without a sandbox in this version", "adaptive": "limits do not adapt in this version"}
DIRECTIVES: Final = {kind.directive: name for name, kind in LIMITS.items()}
FILE_MAX_BYTES: Final = 1 << 20


@value
class Profile:
    """Named limits; ``extends`` is resolved already."""

    name: str
    limits: Limits = Limits()
    best_effort: frozenset[str] = frozenset()


def limit_name(given: str) -> str | None:
    """The limit that ``given`` spells: ``memory_max``, ``memory-max`` or ``MemoryMax``; None for none."""
    name = given.replace("-", "_")
    return name if name in LIMITS else DIRECTIVES.get(given)


def nearest(given: str, names: Iterable[str]) -> str:
    """`` (did you mean ...?)`` for the closest name, or nothing."""
    import difflib

    close = difflib.get_close_matches(given, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse_policy(text: str, source: str = "") -> dict[str, Profile]:
    """The profiles of one file by name. Raises :class:`ConfigError` with every problem, lines included."""
    import tomllib

    if len(text) > FILE_MAX_BYTES:
        raise ConfigError(f"larger than {FILE_MAX_BYTES} bytes, which no policy needs", source=source)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", source=source) from None
    lines = _Lines(text)
    problems = [
        f"{lines.of((key,))}: {key}: unknown table; profiles are [profile.NAME]{nearest(key, ['profile'])}"
        for key in data
        if key != "profile"
    ]
    tables = data.get("profile", {})
    if not isinstance(tables, dict) or not tables:
        problems.append("1: there is no [profile.NAME] table")
        tables = {}
    own = {name: _read_profile(name, table, lines, problems) for name, table in tables.items()}
    made = {name: _extended(name, own, tables, lines, problems) for name in own}
    if problems:
        raise ConfigError(*problems, source=source)
    return made


def _read_profile(name: str, table: Any, lines: _Lines, problems: list[str]) -> Profile:
    if not isinstance(table, dict):
        problems.append(f"{lines.of(('profile', name))}: profile.{name}: must be a table")
        return Profile(name=name)
    given: dict[str, Any] = {}
    best_effort: Any = table.get("best_effort", [])
    for key, item in table.items():
        where = f"{lines.of(('profile', name, key))}: {key}: "
        limit = limit_name(key)
        if key in LATER:
            problems.append(where + LATER[key])
        elif key in OTHER_KEYS:
            continue
        elif limit is None:
            problems.append(f"{where}unknown key{nearest(key, [*LIMITS, *OTHER_KEYS])}")
        else:
            try:
                given[limit] = LIMITS[limit].parse(item)
            except ValueError as error:
                problems.append(where + str(error))
    where = f"{lines.of(('profile', name, 'best_effort'))}: best_effort: "
    if not isinstance(best_effort, list) or not all(isinstance(item, str) for item in best_effort):
        problems.append(where + "must be a list of names of limits")
        best_effort = []
    problems += [f"{where}{item!r} is not a limit{nearest(item, LIMITS)}" for item in best_effort if limit_name(item) is None]
    names = frozenset(known for item in best_effort if (known := limit_name(item)) is not None)
    return Profile(name=name, limits=replace(Limits(), **given), best_effort=names)


def _extended(name: str, own: Mapping[str, Profile], tables: Mapping[str, Any], lines: _Lines, problems: list[str]) -> Profile:
    """The profile with what it extends: its own values win key by key, as the author wrote them."""
    chain = [name]
    while True:
        table = tables[chain[-1]]
        parent = table.get("extends") if isinstance(table, dict) else None
        if parent is None:
            break
        where = f"{lines.of(('profile', chain[-1], 'extends'))}: extends: "
        if not isinstance(parent, str) or parent not in own:
            if chain[-1] == name:
                problems.append(f"{where}there is no profile {parent!r} in this file{nearest(str(parent), own)}")
            break
        if parent in chain:
            if name == min(chain[chain.index(parent) :]):
                problems.append(f"{where}a circle: {' -> '.join([*chain[chain.index(parent) :], parent])}")
            break
        chain.append(parent)
    merged: dict[str, Any] = {}
    best_effort: frozenset[str] = frozenset()
    for link in reversed(chain):
        merged |= own[link].limits.given()
        best_effort |= own[link].best_effort
    return Profile(name=name, limits=replace(Limits(), **merged), best_effort=best_effort)


def pick(profiles: Mapping[str, Profile], name: str, source: str) -> Profile:
    """The profile called ``name``, or the only one when no name is given; raises :class:`ConfigError`."""
    if not name:
        if len(profiles) == 1:
            return next(iter(profiles.values()))
        raise ConfigError(f"holds {len(profiles)} profiles; choose one with {source}#NAME: {', '.join(profiles)}", source=source)
    if name not in profiles:
        raise ConfigError(f"there is no profile {name!r}{nearest(name, profiles)}", source=source)
    return profiles[name]


class _Lines:
    """Where each key of a TOML text stands; good enough for a message, not a TOML parser."""

    def __init__(self, text: str) -> None:
        self._at: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if stripped.startswith("["):
                table = _key_path(stripped.strip("[]").split("]")[0])
                self._at.setdefault(table, number)
            elif "=" in stripped and not stripped.startswith("#"):
                self._at.setdefault((*table, *_key_path(stripped.split("=", 1)[0])), number)

    def of(self, path: tuple[str, ...]) -> int:
        """The line of the key, or of the nearest table above it."""
        while path and path not in self._at:
            path = path[:-1]
        return self._at.get(path, 1)


def _key_path(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
