# SPDX-License-Identifier: Apache-2.0
"""isolate's rules: which variables and which directories a program in a box gets to see.

Source of the syntax and of the defaults: isolate(1), sections ENVIRONMENT RULES and DIRECTORY RULES
(isolate 2.6, August 2026).
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

#: Options of a directory rule, as they stand behind its colons.
DIR_OPTIONS: Final = ("rw", "noexec", "fs", "maybe", "dev", "tmp", "norec")
FILE_SYSTEMS: Final = ("proc", "sysfs", "tmpfs", "devpts")
#: What a box holds unless --no-default-dirs is given.
DEFAULT_DIRS: Final = (
    "box=./box:rw",
    "bin",
    "dev:norec:dev",
    "dev/shm=tmpfs:fs:rw",
    "lib",
    "lib64:maybe",
    "proc=proc:fs",
    "tmp:tmp",
    "usr",
)


@value
class EnvRule:
    """Set ``name`` to ``text``; an empty text removes it, None inherits it from the caller."""

    name: str
    text: str | None = None


@value
class DirRule:
    """One directory of a box.

    ``inside``: path below the box's root, without leading slashes. ``outside``: absolute path on the
    host, ``./PATH`` below the box's own directory, the name of a file system (option ``fs``), or None
    to bind nothing there. ``options``: of :data:`DIR_OPTIONS`. ``default``: nobody asked for it.
    """

    inside: str
    outside: str | None
    options: frozenset[str] = frozenset()
    default: bool = False


def parse_env_rule(text: str) -> EnvRule:
    """``NAME`` or ``NAME=VALUE``; raises :class:`ConfigError`."""
    name, equals, value = text.partition("=")
    if equals and not name:
        raise ConfigError(f"--env: {text[:60]!r} must be NAME or NAME=VALUE")
    return EnvRule(name=name, text=value if equals else None)


def apply_env_rules(rules: Iterable[EnvRule], full: bool, own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program in a box; ``own`` is the caller's, ``full`` starts from all of it."""
    made = dict(own) if full else {}
    for rule in (EnvRule(name="LIBC_FATAL_STDERR_", text="1"), *rules):
        made.pop(rule.name, None)
        text = own.get(rule.name) if rule.text is None else rule.text
        if text or (rule.text is None and text is not None):
            made[rule.name] = text
    return made


def parse_dir_rule(text: str, *, default: bool = False) -> DirRule:
    """``DIR``, ``IN=OUT`` or ``IN=``, each with ``:OPTION`` behind it; raises :class:`ConfigError`."""
    path, *names = text.split(":")
    inside, equals, outside = path.partition("=")
    options = frozenset(names)
    wrong = [name for name in names if name not in DIR_OPTIONS]
    if wrong:
        raise _bad(text, f"unknown option {wrong[0][:60]!r}; there are {', '.join(DIR_OPTIONS)}")
    if {"fs", "tmp"} <= options:
        raise _bad(text, "the options fs and tmp exclude each other")
    where = inside.lstrip("/")
    if not where or ".." in where.split("/"):
        raise _bad(text, "the path inside must name a directory below the root, without '..'")
    if "fs" in options:
        if outside not in FILE_SYSTEMS:
            raise _bad(text, f"with fs the right-hand side must be one of {', '.join(FILE_SYSTEMS)}")
        return DirRule(inside=where, outside=outside, options=options, default=default)
    if "tmp" in options:
        if equals:
            raise _bad(text, "a temporary directory has no right-hand side")
        return DirRule(inside=where, outside="./tmp/" + inside.replace("/", ":"), options=options | {"rw"}, default=default)
    if equals and outside and not outside.startswith(("/", "./")):
        raise _bad(text, "the right-hand side must start with '/' or './'")
    return DirRule(inside=where, outside=(outside or None) if equals else f"/{inside}", options=options, default=default)


def dir_rules(given: Iterable[str], with_defaults: bool) -> tuple[DirRule, ...]:
    """The rules in the order in which they are carried out; raises :class:`ConfigError`.

    A rule for the same path inside replaces the earlier one and takes its place.
    """
    made: dict[str, DirRule] = {}
    for text in DEFAULT_DIRS:
        rule = parse_dir_rule(text, default=True)
        made[rule.inside] = rule
    for text in given:
        rule = parse_dir_rule(text)
        made[rule.inside] = rule
    return tuple([rule for rule in made.values() if rule.outside is not None and (with_defaults or not rule.default)])


def _bad(text: str, reason: str) -> ConfigError:
    return ConfigError(f"--dir: {text[:60]!r}: {reason}")
