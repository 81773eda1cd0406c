# SPDX-License-Identifier: Apache-2.0
"""PolicyFile: the profiles of one TOML text. Parsing is pure and total: what is wrong becomes problems."""

from __future__ import annotations

from supervisor.model.policy.positions import KEY_PARTS_MAX, Positions, TooManyParts, key_lines
from supervisor.model.policy.problem import Problem
from supervisor.model.policy.profile import Profile, Suggestions, read_profile
from supervisor.model.spelling import nearest
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

FILE_MAX_BYTES: Final = 1 << 20
PROFILES_MAX: Final = 1000


@value
class PolicyFile:
    """One file: its name as given, its profiles by name, and the problems outside of any profile.

    ``readable`` is False for a file that cannot be opened or trusted and for a text that is no TOML: nobody
    knows which profiles it defines.
    """

    name: str
    profiles: Mapping[str, Profile] = {}
    problems: tuple[Problem, ...] = ()
    readable: bool = True

    def all_problems(self) -> tuple[Problem, ...]:
        """Its own and those of its profiles."""
        return (*self.problems, *(problem for profile in self.profiles.values() for problem in profile.problems))


def parse_file(text: str, name: str = "policy.toml") -> PolicyFile:
    """Read the text of the file called ``name``; whatever is wrong is in the file's and its profiles' ``problems``."""
    if len(text) > FILE_MAX_BYTES:
        return unreadable(Problem(file=name, message=f"larger than {FILE_MAX_BYTES} bytes, which no policy needs"))
    import tomllib

    try:
        _refuse_long_keys(text)
        return _read(tomllib.loads(text), name, Positions(text))
    except TooManyParts as error:
        return unreadable(Problem(file=name, line=error.line, message=f"a key of more than {KEY_PARTS_MAX} parts, which no policy needs"))
    except RecursionError:
        return unreadable(Problem(file=name, message="nested too deeply, which no policy needs"))
    except ValueError as error:  # TOMLDecodeError, and what int() says to thousands of digits
        return unreadable(_not_toml(str(error), text, name))


def _refuse_long_keys(text: str) -> None:
    """Before tomllib sees them: 20 KB of a dotted key would keep it for seconds, a megabyte for hours."""
    if any(line.count(".") >= KEY_PARTS_MAX for line in text.split("\n")):
        try:
            key_lines(text)
        except (IndexError, ValueError):
            return  # no TOML, up to where the scanner came without such a key; tomllib says what is wrong


def unreadable(problem: Problem) -> PolicyFile:
    """A file of which nothing is known but why."""
    return PolicyFile(name=problem.file, problems=(problem,), readable=False)


def _not_toml(said: str, text: str, name: str) -> Problem:
    """tomllib's words, with the line where a line belongs."""
    words, marker, place = said.rpartition(" (at ")
    line, _, column = place.removeprefix("line ").rstrip(")").partition(", column ")
    if not marker:
        return Problem(file=name, message=f"not valid TOML: {said[:200]}")
    if not line.isdecimal():  # "end of document"
        return Problem(file=name, line=text.count("\n") + 1, message=f"not valid TOML: {words[:200]} (at the end of the file)")
    return Problem(file=name, line=int(line), message=f"not valid TOML: {words[:200]} (column {column})")


def _read(document: dict[str, Any], name: str, positions: Positions) -> PolicyFile:
    problems = [
        Problem(
            file=name,
            line=positions.line((key,)),
            key=key[:60],
            message=f"unknown table; profiles are [profile.NAME]{nearest(key, ['profile'])}",
        )
        for key in document
        if key != "profile"
    ]
    tables = document.get("profile", {})
    if not isinstance(tables, dict) or not tables:
        problems.append(Problem(file=name, line=positions.line(("profile",)), message="there is no [profile.NAME] table"))
        tables = {}
    if len(tables) > PROFILES_MAX:
        problems.append(Problem(file=name, message=f"more than {PROFILES_MAX} profiles, which no policy needs"))
        tables = {}
    suggestions = Suggestions()
    profiles = {key: read_profile(key, table, name, positions, suggestions) for key, table in tables.items()}
    return PolicyFile(name=name, profiles=profiles, problems=tuple(problems))
