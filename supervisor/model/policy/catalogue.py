# SPDX-License-Identifier: Apache-2.0
"""Catalogue: the policy files that have been read, and which profile a name means in them.

Places from the nearest to the farthest: project, user, system, library. A name means the profile of the
nearest place that has it, and a profile may extend the one of the same name in a place farther away. Two
files of one place must not define one name; and a project may add names but not redefine any, because
what lies in a checkout must not loosen what its host or its user said.
"""

from __future__ import annotations

from supervisor.model.policy.file import PolicyFile
from supervisor.model.policy.problem import Problem
from supervisor.model.policy.profile import Profile
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

PROJECT: Final = "project"
PLACES: Final = (PROJECT, "user", "system", "library")


@value
class Place:
    """The files of one place, in order of their names."""

    name: str
    files: tuple[PolicyFile, ...] = ()


@value
class Catalogue:
    """``files`` by the path they were asked for; ``places`` is None until they have been read."""

    files: Mapping[str, PolicyFile] = {}
    places: tuple[Place, ...] | None = None


@value
class Want:
    """What must be read before a question can be answered: the file ``path``, or the places when it is empty."""

    path: str = ""


@value
class Found:
    """A profile and the file it stands in; ``problems`` say why its name is not clear."""

    file: PolicyFile
    profile: Profile
    problems: tuple[Problem, ...] = ()


def look_up(name: str, places: tuple[Place, ...]) -> Found | None:
    """The profile that ``name`` means in ``places``, nearest first."""
    for number, place in enumerate(places):
        here = [file for file in place.files if name in file.profiles]
        if not here:
            continue
        profile = here[0].profiles[name]
        problems = [_twice(name, other, here[0]) for other in here[1:]]
        farther = look_up(name, places[number + 1 :])
        if place.name == PROJECT and farther is not None:
            problems.append(_redefined(profile, farther.profile))
        return Found(file=here[0], profile=profile, problems=tuple(problems))
    return None


def farther_places(file: PolicyFile, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places behind the one that ``file`` belongs to; all of them for a file of no place."""
    for number, place in enumerate(places):
        if any(other is file for other in place.files):
            return places[number + 1 :]
    return places


def own_and_farther_places(file: PolicyFile, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The same, and its own place: what a profile of ``file`` may extend."""
    behind = farther_places(file, places)
    return places[max(0, len(places) - len(behind) - 1) :] if len(behind) < len(places) else places


def clashes(places: tuple[Place, ...]) -> Iterator[Problem]:
    """Every name that two files of one place define, or that a project redefines."""
    for number, place in enumerate(places):
        seen: set[str] = set()
        for name in [name for file in place.files for name in file.profiles]:
            if name not in seen:
                seen.add(name)
                found = look_up(name, places[number:])
                yield from found.problems if found is not None else ()


def _twice(name: str, other: PolicyFile, first: PolicyFile) -> Problem:
    return Problem(
        file=other.name,
        line=other.profiles[name].origin.line,
        key=f"profile.{name}",
        message=f"is defined in {first.profiles[name].origin} as well; one name has one definition in one place, so rename or remove one",
    )


def _redefined(profile: Profile, farther: Profile) -> Problem:
    return Problem(
        file=profile.origin.file,
        line=profile.origin.line,
        key=f"profile.{profile.name}",
        message=f"is defined in {farther.origin}, and a project cannot redefine it; give it another name and extend {profile.name!r}",
    )
