# SPDX-License-Identifier: Apache-2.0
"""Command lines as getopt_long(3) of the GNU C library reads them, for the tools whose options we take over.

Pure, and without what Python's own ``getopt`` lacks: optional arguments, exact names before prefixes,
and the C library's messages, which scripts and people know.
"""

from __future__ import annotations

from supervisor.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

#: What follows an option: nothing, always an argument, or one only when it is attached.
NO_ARGUMENT: Final = 0
REQUIRED_ARGUMENT: Final = 1
OPTIONAL_ARGUMENT: Final = 2

if TYPE_CHECKING:
    #: (long name, its argument or None), in the order given
    Found = list[tuple[str, str | None]]


def getopt_long(
    argv: Sequence[str], long: Mapping[str, int], short: Mapping[str, str] = {}, *, permute: bool = True
) -> tuple[Found, list[str]]:
    """The options and the operands of ``argv``.

    ``long``: name → what follows it; ``short``: letter → long name. ``permute``: options may stand
    behind operands, as they may for most GNU programs; otherwise the first operand ends them (a ``+``
    in C). ``--`` always ends them. Raises :class:`ConfigError` in getopt's words.
    """
    found: Found = []
    operands: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            return found, [*operands, *argv[at:]]
        if word == "-" or not word.startswith("-"):
            operands.append(word)
            if not permute:
                return found, [*operands, *argv[at:]]
        elif word.startswith("--"):
            name, follows, argument = _long(word, long)
            if follows == REQUIRED_ARGUMENT and argument is None:
                if at >= len(argv):
                    raise ConfigError(f"option '--{name}' requires an argument")
                argument = argv[at]
                at += 1
            found.append((name, argument))
        else:
            at += _cluster(word[1:], argv[at:], long, short, found)
    return found, operands


def _long(word: str, long: Mapping[str, int]) -> tuple[str, int, str | None]:
    given, equals, text = word[2:].partition("=")
    names = [given] if given in long else [name for name in long if name.startswith(given)]
    if not names:
        raise ConfigError(f"unrecognized option '--{given[:60]}'")
    if len(names) > 1:
        possible = " ".join(f"'--{name}'" for name in names)
        raise ConfigError(f"option '--{given}' is ambiguous; possibilities: {possible}")
    follows = long[names[0]]
    if equals and follows == NO_ARGUMENT:
        raise ConfigError(f"option '--{names[0]}' doesn't allow an argument")
    return names[0], follows, text if equals else None


def _cluster(letters: str, rest: Sequence[str], long: Mapping[str, int], short: Mapping[str, str], found: Found) -> int:
    """Read the letters behind one dash; returns how many further words were taken as arguments."""
    for at, letter in enumerate(letters):
        name = short.get(letter)
        if name is None:
            raise ConfigError(f"invalid option -- '{letter}'")
        attached = letters[at + 1 :]
        if long[name] == NO_ARGUMENT:
            found.append((name, None))
        elif attached:
            found.append((name, attached))
            return 0
        elif long[name] == OPTIONAL_ARGUMENT:
            found.append((name, None))
        elif not rest:
            raise ConfigError(f"option requires an argument -- '{letter}'")
        else:
            found.append((name, rest[0]))
            return 1
    return 0
