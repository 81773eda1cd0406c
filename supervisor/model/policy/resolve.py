# SPDX-License-Identifier: Apache-2.0
"""Resolve: from a reference to the policy it means, through everything the profile extends.

A conversation without I/O: :func:`resolve` and :func:`examine` answer, or say what must be read first
(:class:`Want`); whoever may touch files reads it and asks again.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limits import Limits
from supervisor.model.policy.adaptive import exceeds
from supervisor.model.policy.catalogue import Catalogue, Found, Want, farther_places, look_up, own_and_farther_places
from supervisor.model.policy.policy import Policy
from supervisor.model.policy.problem import Problem, in_order, refuse
from supervisor.model.policy.reference import beside, parse_reference
from supervisor.model.policy.text import limit_text
from supervisor.model.spelling import nearest
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from supervisor.model.policy.catalogue import Place
    from supervisor.model.policy.file import PolicyFile
    from supervisor.model.policy.given import Given, Origin
    from supervisor.model.policy.profile import Profile
    from supervisor.model.policy.reference import Reference
    from supervisor.model.sandbox import Sandbox


#: Profiles that one may stand on, itself included.
CHAIN_MAX: Final = 32


def resolve(reference: Reference, catalogue: Catalogue) -> Policy | Want:
    """The policy that ``reference`` means. Raises :class:`ConfigError` with every problem of its file and its chain."""
    found = _first(reference, catalogue)
    if isinstance(found, Want):
        return found
    links = _chain(found, catalogue)
    if isinstance(links, Want):
        return links
    chain, problems = links
    if reference.file:
        problems = [*found.file.all_problems(), *problems]
    policy, more = _merge(chain)
    if problems or more:
        raise refuse([*problems, *more])
    return policy


def examine(file: PolicyFile, catalogue: Catalogue) -> tuple[Problem, ...] | Want:
    """Everything wrong with a file and with what its profiles extend."""
    problems = [*file.all_problems()]
    for profile in file.profiles.values():
        links = _chain(Found(file=file, profile=profile), catalogue)
        if isinstance(links, Want):
            return links
        problems += [*links[1], *_merge(links[0])[1]]
    return in_order(problems)


def _first(reference: Reference, catalogue: Catalogue) -> Found | Want:
    if reference.file:
        file = catalogue.files.get(reference.file)
        return Want(path=reference.file) if file is None else _named(file, reference.profile)
    if catalogue.places is None:
        return Want()
    _refuse_unreadable(catalogue.places)
    found = look_up(reference.profile, catalogue.places)
    if found is None:
        close = nearest(reference.profile, names(catalogue.places))
        raise ConfigError(f"there is no profile {reference.profile[:80]!r}{close}; 'ringfence policy show' lists them all")
    return found


def _refuse_unreadable(places: Sequence[Place]) -> None:
    """Who knows what such a file would have said about a name? It must not fall back to a looser profile."""
    problems = [problem for place in places for file in place.files if not file.readable for problem in file.problems]
    if problems:
        raise refuse(problems)


def _named(file: PolicyFile, name: str) -> Found:
    if not file.readable:
        raise refuse(file.problems)
    profiles = file.profiles
    if not name and len(profiles) == 1:
        name = next(iter(profiles))
    if name in profiles:
        return Found(file=file, profile=profiles[name])
    if file.problems:
        raise refuse(file.all_problems())
    if not name:
        raise ConfigError(f"holds {len(profiles)} profiles; choose one with {file.name}#NAME: {', '.join(profiles)}", source=file.name)
    raise ConfigError(f"there is no profile {name[:80]!r}{nearest(name, profiles)}", source=file.name)


def names(places: Sequence[Place]) -> list[str]:
    """Every name that the places define, each once, nearest first."""
    return list(dict.fromkeys(name for place in places for file in place.files for name in file.profiles))


def _chain(first: Found, catalogue: Catalogue) -> tuple[list[Found], list[Problem]] | Want:
    """The profile and what it extends, nearest first, and what is wrong on the way."""
    chain, problems = [first], [*first.problems]
    while (given := chain[-1].profile.extends) is not None:
        try:
            found = _parent(chain[-1], str(given.amount), catalogue)
        except ConfigError as error:
            problems.append(_problem(given.origin, "extends", "; ".join(error.problems)))
            break
        if isinstance(found, Want):
            return found
        known = [number for number, link in enumerate(chain) if link.profile is found.profile]
        if known:
            problems.append(_circle(chain[known[0] :]))
            break
        if len(chain) == CHAIN_MAX:
            problems.append(_problem(given.origin, "extends", f"a chain of more than {CHAIN_MAX} profiles, which nobody can follow"))
            break
        chain.append(found)
        problems += found.problems
    problems += [problem for link in chain for problem in link.profile.problems]
    return chain, problems


def _circle(links: Sequence[Found]) -> Problem:
    """The same words and the same place wherever one gets into the circle."""
    first = min(range(len(links)), key=lambda number: (links[number].file.name, links[number].profile.name))
    links = [*links[first:], *links[:first]]
    names = [link.profile.name for link in (*links, links[0])]
    last = links[-1].profile
    return _problem(last.extends.origin if last.extends else last.origin, "extends", f"a circle: {' -> '.join(names)}")


def _parent(link: Found, text: str, catalogue: Catalogue) -> Found | Want:
    """What ``extends = text`` means in the file of ``link``: its own file first, then its place and those behind it."""
    reference = parse_reference(text)
    if reference.file:
        return _first(replace(reference, file=beside(link.file.name, reference.file)), catalogue)
    name = reference.profile
    if name != link.profile.name and name in link.file.profiles:
        return Found(file=link.file, profile=link.file.profiles[name])
    if catalogue.places is None:
        return Want()
    same = name == link.profile.name  # one's own name means the same profile farther away
    places = farther_places(link.file, catalogue.places) if same else own_and_farther_places(link.file, catalogue.places)
    _refuse_unreadable(places)
    found = look_up(name, places)
    if found is not None:
        return found
    if same:
        raise ConfigError(f"a circle: {name} -> {name}, for no place behind this one defines it")
    raise ConfigError(f"there is no profile {name[:80]!r}{nearest(name, [*link.file.profiles, *names(places)])}")


def _merge(chain: Sequence[Found]) -> tuple[Policy, list[Problem]]:
    """What the chain comes to: a nearer profile's own value replaces the inherited one, key by key."""
    profiles = [link.profile for link in reversed(chain)]
    limits, best_effort, sandbox, adaptive = (
        {key: given for profile in profiles for key, given in _part(profile, part).items()}
        for part in ("limits", "best_effort", "sandbox", "adaptive")
    )
    problems = [*_outside_bounds(limits, adaptive)]
    spoiled = any(problem.key.startswith("sandbox") for profile in profiles for problem in profile.problems)
    world, wrong = (None, []) if spoiled else _sandbox(sandbox)
    problems += wrong
    origins: dict[str, Origin] = {key: given.origin for key, given in limits.items()}
    for part, read in (("best_effort", best_effort), ("sandbox", sandbox), ("adaptive", adaptive)):
        origins |= {f"{part}.{key}": given.origin for key, given in read.items()}
    policy = Policy(
        name=chain[0].profile.name,
        description=next((link.profile.description for link in chain if link.profile.description), ""),
        limits=replace(Limits(), **{key: given.amount for key, given in limits.items()}),
        best_effort=frozenset(best_effort),
        sandbox=world,
        adaptive={key: given.amount for key, given in adaptive.items()},
        origins=origins,
        chain=tuple([f"{link.file.name}#{link.profile.name}" for link in chain]),
        files=tuple(dict.fromkeys(link.file.name for link in chain)),
    )
    return policy, problems


def _part(profile: Profile, part: str) -> Mapping[str, Given]:
    return getattr(profile, part)  # type: ignore[no-any-return]


def _sandbox(given: Mapping[str, Given]) -> tuple[Sandbox | None, list[Problem]]:
    """The sandbox that the merged table means; a level that nobody names is ``none``."""
    if not given:
        return None, []
    from supervisor.model.policy.sandbox_table import sandbox_problems
    from supervisor.model.sandbox import parse_sandbox

    table = {"level": "none", **{key: item.amount for key, item in given.items()}}
    wrong = list(sandbox_problems(table))
    if not wrong:
        return parse_sandbox(table), []
    first = next(iter(given.values()))  # stands for a key that nobody wrote
    return None, [_problem(given.get(key, first).origin, f"sandbox.{key}", message) for key, message in wrong]


def _outside_bounds(limits: Mapping[str, Given], adaptive: Mapping[str, Given]) -> list[Problem]:
    problems = []
    for name, given in adaptive.items():
        limit = limits.get(name)
        if limit is not None and (exceeds(given.amount.min, limit.amount) or exceeds(limit.amount, given.amount.max)):
            shown = f"{limit_text(name, given.amount.min)} to {limit_text(name, given.amount.max)}"
            message = f"the limit itself, {limit_text(name, limit.amount)} ({limit.origin}), lies outside {shown}"
            problems.append(_problem(given.origin, f"adaptive.{name}", message))
    return problems


def _problem(origin: Origin, key: str, message: str) -> Problem:
    return Problem(file=origin.file, line=origin.line, key=key, message=message)
