# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy``: check, show, compare and convert policy files."""

from __future__ import annotations

import sys

from supervisor.errors import ConfigError, SupervisorError
from supervisor.model.spelling import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import TextIOWrapper
    from typing import Final

VERBS: Final = {
    "check": "every problem of the files, or of every file in the places, as file:line: key: message",
    "show": "a resolved profile and where each of its values was written; without a name, every profile there is",
    "diff": "what a change from one profile to another tightens, loosens or changes",
    "convert": "a profile from a systemd unit, an isolate or a docker command line",
    "schema": "the JSON Schema of policy files, for editors and tools",
}
USAGE: Final = """usage: ringfence policy check [--json] [FILE...]
       ringfence policy show [--json] [NAME|FILE[#PROFILE]]
       ringfence policy diff [--json] [--no-looser] BEFORE AFTER
       ringfence policy convert [--json] [--strict] [--name NAME] systemd FILE
       ringfence policy convert [--json] [--strict] [--name NAME] isolate|docker ARGUMENT...
       ringfence policy schema

{verbs}

exit status: 0 done and nothing wrong; 1 problems found (also: something that may be looser with --no-looser,
something not carried over with --strict), or a file that cannot be read; 2 wrong usage"""


class UsageError(ConfigError):
    """The command line itself is wrong: exit status 2."""


def policy(argv: list[str]) -> int:
    """Run one verb of ``ringfence policy``; returns 0, 1 or 2 (see USAGE)."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            _tolerant(stream)  # type: ignore[arg-type]
    verb = argv[0] if argv else "help"
    try:
        if verb in ("help", "--help", "-h") or "--help" in argv[1:2]:
            print(USAGE.format(verbs="\n".join(f"  {name:<8} {text}" for name, text in VERBS.items())))
            return 0 if argv else 2
        if verb not in VERBS:
            raise UsageError(f"unknown verb {verb[:60]!r}{nearest(verb, VERBS)}; see 'ringfence policy help'")
        return _verb(verb)(argv[1:])
    except UsageError as error:
        print(f"ringfence policy: {error}", file=sys.stderr)
        return 2
    except SupervisorError as error:
        for line in str(error).splitlines():
            print(f"ringfence: {line}", file=sys.stderr)
        return 1


def _tolerant(stream: TextIOWrapper) -> None:
    """A path need not be text, and a terminal need not know every letter."""
    stream.reconfigure(errors="backslashreplace")


def _verb(name: str) -> Callable[[list[str]], int]:
    """The verb's function; each loads what only it needs."""
    if name == "check":
        from supervisor.cli.policy.check import check

        return check
    if name == "show":
        from supervisor.cli.policy.show import show

        return show
    if name == "diff":
        from supervisor.cli.policy.diff import diff

        return diff
    if name == "convert":
        from supervisor.cli.policy.convert import convert

        return convert
    return _schema


def _schema(argv: list[str]) -> int:
    read_options(argv, {}, 0, 0)
    from supervisor.model.policy.schema import policy_schema

    print_json(policy_schema())
    return 0


def read_options(
    argv: Sequence[str], known: dict[str, int], least: int, most: int, *, permute: bool = True
) -> tuple[dict[str, str], list[str]]:
    """Options (name to argument, empty for a flag) and operands; raises :class:`UsageError`."""
    from supervisor.model.getopt_long import getopt_long

    try:
        found, operands = getopt_long(argv, known, permute=permute)
    except ConfigError as error:
        raise UsageError(f"{error}; see 'ringfence policy help'") from None
    if not least <= len(operands) <= most:
        raise UsageError("too few arguments" if len(operands) < least else f"unexpected argument {operands[most][:60]!r}")
    return {name: text or "" for name, text in found}, operands


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    import json

    print(json.dumps(document, indent=1))
