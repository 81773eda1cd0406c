# SPDX-License-Identifier: Apache-2.0
"""Ordering: which services start with one, after whom, and which stop with it. Pure.

systemd.unit(5): ``requires`` draws in and does not order, ``after`` orders and does not draw in; stopping is the reverse of
starting. A service that is ``after`` what it ``requires`` is not started when that one fails.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.spelling import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.model.service import ServiceSpec

    Specs = Mapping[str, ServiceSpec]


def check_order(specs: Specs) -> None:
    """Raises :class:`ConfigError` with every name that is unknown and every circle."""
    problems = [
        f"{spec.name}: {key}: there is no service {name!r}{nearest(name, specs)}"
        for spec in specs.values()
        for key, names in (("requires", spec.requires), ("after", spec.after))
        for name in names
        if name not in specs
    ]
    problems += [f"{circle[0]}: after: a circle: {' -> '.join([*circle, circle[0]])}" for circle in find_circles(specs)]
    if problems:
        raise ConfigError(*problems)


def find_circles(specs: Specs) -> list[tuple[str, ...]]:
    """One circle of ``after`` for every knot there is, each from its first name in the alphabet on."""
    done: set[str] = set()
    circles: set[tuple[str, ...]] = set()
    for start in sorted(specs):
        path: list[str] = []
        walk: list[tuple[str, list[str]]] = [(start, _before(specs, start))] if start not in done else []
        while walk:
            name, waiting = walk[-1]
            if len(path) < len(walk):
                path.append(name)
            if not waiting:
                done.add(name)
                walk.pop()
                path.pop()
                continue
            other = waiting.pop(0)
            if other in path:
                circle = path[path.index(other) :]
                first = circle.index(min(circle))
                circles.add((*circle[first:], *circle[:first]))
            elif other not in done:
                walk.append((other, _before(specs, other)))
    return sorted(circles)


def _before(specs: Specs, name: str) -> list[str]:
    return sorted({other for other in specs[name].after if other in specs})


def drawn_in(specs: Specs, names: Iterable[str]) -> frozenset[str]:
    """The services named and all they require, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += specs[name].requires
    return frozenset(found)


def drawn_out(specs: Specs, names: Iterable[str]) -> frozenset[str]:
    """The services named and all that require them, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other, spec in specs.items() if name in spec.requires]
    return frozenset(found)


def start_waves(specs: Specs, names: Iterable[str]) -> list[tuple[str, ...]]:
    """The services in waves: each one comes later than all of ``names`` that it is ``after``; stop them from the last wave to the first.

    Raises :class:`ConfigError` for a circle.
    """
    left = set(names)
    waves = []
    while left:
        wave = tuple(sorted(name for name in left if not left.intersection(specs[name].after)))
        if not wave:
            check_order({name: specs[name] for name in left})
            raise ConfigError(f"after: {', '.join(sorted(left))} wait for each other")
        waves.append(wave)
        left.difference_update(wave)
    return waves
