# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy show``: a resolved profile, and where each of its values was written."""

from __future__ import annotations

from supervisor.cli.policy.verbs import print_json, read_options
from supervisor.kernel.policy_files import PolicyReader
from supervisor.kernel.probe import read_host
from supervisor.model.policy.compare import show_bounds, show_sandbox_field
from supervisor.model.policy.text import limit_text
from supervisor.model.relative import resolve_relative
from supervisor.model.spelling import visible
from supervisor.model.value import as_dict, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from supervisor.model.policy.policy import Policy

LATER: Final = "kept for the governor; this version moves no limit"


def show(argv: list[str]) -> int:
    """Print one profile, or the list of all."""
    options, references = read_options(argv, {"json": 0}, 0, 1)
    reader = PolicyReader()
    if not references:
        return _list(reader, as_json="json" in options)
    policy = reader.load(references[0])
    if "json" in options:
        print_json(_document(policy))
        return 0
    print(visible(f"{policy.name}: {policy.description}" if policy.description else policy.name))
    for number, link in enumerate(policy.chain):
        print(visible(f"  {'extends' if number else 'from'} {link}"))
    rows = [("", *map(visible, row)) for row in _rows(policy)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)) + f"  {row[3]}")
    return 0


def _rows(policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Key, value and origin of everything the profile says."""
    here = _here(policy)
    for name, amount in policy.limits.given().items():
        note = " (best effort)" if name in policy.best_effort else ""
        yield name, limit_text(name, amount) + here.get(name, "") + note, _origin(policy, name)
    for name in sorted(policy.best_effort - policy.limits.given().keys()):
        yield f"best_effort.{name}", "may lapse", _origin(policy, f"best_effort.{name}")
    for name, item in as_dict(policy.sandbox).items() if policy.sandbox is not None else ():
        if f"sandbox.{name}" in policy.origins:
            yield f"sandbox.{name}", show_sandbox_field(name, item), _origin(policy, f"sandbox.{name}")
    for name, bounds in policy.adaptive.items():
        yield f"adaptive.{name}", f"{show_bounds(name, bounds)} ({LATER})", _origin(policy, f"adaptive.{name}")


def _here(policy: Policy) -> dict[str, str]:
    """What shares and auto come to on this host."""
    resolved = resolve_relative(policy.limits, read_host(None, "")).given()
    given = policy.limits.given()
    return {name: f" ({limit_text(name, amount)} here)" for name, amount in resolved.items() if amount != given[name]}


def _origin(policy: Policy, key: str) -> str:
    return str(policy.origins[key])


def _document(policy: Policy) -> dict[str, Any]:
    resolved = resolve_relative(policy.limits, read_host(None, "")).given()
    limits = {
        name: {
            "value": limit_text(name, amount),
            "here": limit_text(name, resolved[name]),
            "best_effort": name in policy.best_effort,
            "origin": plain(policy.origins[name]),
        }
        for name, amount in policy.limits.given().items()
    }
    adaptive = {
        name: {
            "min": limit_text(name, bounds.min),
            "max": limit_text(name, bounds.max),
            "active": False,
            "origin": plain(policy.origins[f"adaptive.{name}"]),
        }
        for name, bounds in policy.adaptive.items()
    }
    return {
        "version": 1,
        "name": policy.name,
        "description": policy.description,
        "chain": list(policy.chain),
        "limits": limits,
        "best_effort": sorted(policy.best_effort),
        "sandbox": None if policy.sandbox is None else _sandbox(policy),
        "adaptive": adaptive,
    }


def _sandbox(policy: Policy) -> dict[str, Any]:
    """Every field; the origin is null for a default of the level."""
    return {
        name: {"value": plain(item), "origin": plain(policy.origins.get(f"sandbox.{name}"))}
        for name, item in as_dict(policy.sandbox).items()
    }


def _list(reader: PolicyReader, *, as_json: bool) -> int:
    rows: list[tuple[str, str, str, str]] = []
    problems: list[str] = []
    shadowed: set[str] = set()
    for place in reader.places():
        here = [(profile, file) for file in place.files for profile in file.profiles.values()]
        problems += [str(problem) for file in place.files if not file.readable for problem in file.problems]
        rows += [(profile.name, place.name, profile.description, file.name) for profile, file in here if profile.name not in shadowed]
        shadowed |= {profile.name for profile, _ in here}
    if as_json:
        keys = ("name", "place", "description", "file")
        print_json({"version": 1, "profiles": [dict(zip(keys, row, strict=True)) for row in rows], "problems": problems})
    else:
        width = max([len(row[0]) for row in rows], default=0)
        for name, where, description, _ in rows:
            print(visible(f"{name:<{width}}  {where:<7}  {description}".rstrip()))
        for problem in problems:
            print(problem)
    return 1 if problems else 0
