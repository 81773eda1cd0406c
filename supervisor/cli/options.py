# SPDX-License-Identifier: Apache-2.0
"""The options of ``ringfence run``: one table, one small parser.

An argument library would cost more at start than the whole command may; see docs/explanation/budgets.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

#: option -> (placeholder of its value or "" for a flag, may be repeated, help)
OTHER: Final[Mapping[str, tuple[str, bool, str]]] = {
    "property": ("NAME=VALUE", True, "any limit by its policy-file or systemd name"),
    "policy": ("FILE[#PROFILE]", False, "limits of a policy file, or of a profile by its name; options only ever tighten them"),
    "best-effort": ("NAME,...", True, "limits that may be sampled, or lapse, where the host cannot enforce them"),
    "sandbox": ("LEVEL", False, "none, basic (fewer privileges, own /tmp, write only here) or strict (a world of its own)"),
    "bind": ("SRC[:DST][:ro|rw]", True, "show a file or directory of the host in the sandbox, read-only unless rw"),
    "network": ("none|loopback|host", False, "what a strict sandbox can reach (none)"),
    "syscalls": ("PRESET", False, "filter system calls: default, compute, python, network, or none; default under strict, else none"),
    "syscalls-allow": ("NAME,...", True, "system calls, or @groups of them, that the preset denies and this command may make"),
    "syscalls-deny": ("NAME,...", True, "system calls, or @groups of them, that fail besides"),
    "user": ("USER", False, "run as this user (name or number)"),
    "group": ("GROUP", False, "run as this group"),
    "working-directory": ("DIR", False, "start there"),
    "file": ("SRC:NAME", True, "copy a file into a work directory of the command's own, where it starts"),
    "collect": ("PATTERN:DIR", True, "copy what matches out of that directory at the end; no link is followed"),
    "setenv": ("NAME=VALUE", True, "set a variable of the environment"),
    "clear-env": ("", False, "start with an empty environment (PATH is kept)"),
    "stdin": ("PATH", False, "read standard input from a file"),
    "stdout": ("PATH", False, "write standard output to a file"),
    "stderr": ("PATH", False, "write standard error to a file"),
    "umask": ("OCTAL", False, "file mode creation mask"),
    "nice": ("N", False, "priority, -20 to 19"),
    "oom-score-adjust": ("N", False, "-1000 to 1000"),
    "cpu-affinity": ("LIST", False, "processors by sched_setaffinity; the job may change it, unlike --allowed-cpus"),
    "no-new-privileges": ("", False, "set-user-ID programs gain nothing"),
    "kill-grace": ("DURATION", False, "from SIGTERM to SIGKILL, when stopped (2s) and when a time limit is reached (0)"),
    "pty": ("", False, "give the command a terminal of its own, connected to this one"),
    "cgroup": ("PATH", False, "make the job's cgroup below this one"),
    "result": ("PATH", False, "write the outcome there as JSON; - is standard output"),
    "json": ("", False, "print the outcome with the captured streams as JSON"),
    "explain": ("", False, "print the plan and who enforces what; run nothing"),
    "quiet": ("", False, "no summary on standard error"),
    "help": ("", False, "show this help"),
}
SHORT: Final = {"p": "property", "h": "help", "q": "quiet", "u": "user"}


class Parsed:
    """What a command line said: values by option, and the command."""

    __slots__ = ("command", "flags", "limits", "lists", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.flags: set[str] = set()
        self.limits: dict[str, list[str]] = {}
        self.command: list[str] = []

    def flag(self, name: str) -> bool:
        return name in self.flags


def parse(argv: list[str]) -> Parsed:
    """Read ``[OPTIONS] [--] COMMAND [ARG...]``. Raises :class:`ConfigError` for the first thing wrong."""
    parsed = Parsed()
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            parsed.command = argv[at:]
            break
        if not word.startswith("-") or word == "-":
            parsed.command = argv[at - 1 :]
            break
        name, given, value = _split(word)
        if _is_flag(name):
            if given:
                raise ConfigError(f"--{name}: takes no value")
            parsed.flags.add(name)
            continue
        if not given:
            if at >= len(argv):
                raise ConfigError(f"{word}: a value is missing")
            value = argv[at]
            at += 1
        _take(parsed, name, value)
    return parsed


def _split(word: str) -> tuple[str, bool, str]:
    """(long name, whether a value is attached, the value) of an option as written."""
    if word.startswith("--"):
        name, given, value = word[2:].partition("=")
        return name, bool(given), value
    if word[1] not in SHORT:
        raise ConfigError(f"{word[:2]}: unknown option; see 'ringfence run --help'")
    return SHORT[word[1]], len(word) > 2, word[2:].removeprefix("=")


def _is_flag(name: str) -> bool:
    return name in OTHER and OTHER[name][0] == ""


def _take(parsed: Parsed, name: str, value: str) -> None:
    from supervisor.model.spelling import limit_name, nearest

    if name == "property":
        key, equals, value = value.partition("=")
        limit = limit_name(key)
        if not equals:
            raise ConfigError(f"--property: {key[:60]!r} must be NAME=VALUE")
        if limit is None:
            close = nearest(key, [*LIMITS, *(row.directive for row in LIMITS.values())])
            raise ConfigError(f"--property: unknown property {key[:60]!r}{close}")
        parsed.limits.setdefault(limit, []).append(value)
    elif name in OTHER:
        if OTHER[name][1]:
            parsed.lists.setdefault(name, []).append(value)
        else:
            parsed.values[name] = value
    elif (limit := limit_name(name)) is not None and "_" not in name:
        parsed.limits.setdefault(limit, []).append(value)
    else:
        known = [*OTHER, *(row.replace("_", "-") for row in LIMITS)]
        raise ConfigError(f"--{name[:60]}: unknown option{nearest(name, known)}; see 'ringfence run --help'")


def help_text() -> str:
    """The help of ``ringfence run``."""
    lines = [
        "usage: ringfence run [OPTIONS] [--] COMMAND [ARG...]",
        "",
        "Run a command inside limits and say how it ended. Exit status: the command's own; 128+N when a",
        "signal of its own ended it; 124 when one of its limits did; 125 when Ringfence failed or refused;",
        "126 or 127 when the command cannot be run or is not found.",
        "",
        "limits (sizes as 256M, durations as 1min 30s, shares as 50%, rlimits as VALUE or SOFT:HARD):",
    ]
    lines += [f"  --{name.replace('_', '-'):<26} {kind.help}" for name, kind in LIMITS.items()]
    lines += ["", "other options:"]
    short = {long: letter for letter, long in SHORT.items()}
    for name, (placeholder, _, text) in OTHER.items():
        shown = f"--{name}" + (f" {placeholder}" if placeholder else "") + (f", -{short[name]}" if name in short else "")
        lines.append(f"  {shown:<28} {text}")
    return "\n".join(lines)
