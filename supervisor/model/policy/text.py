# SPDX-License-Identifier: Apache-2.0
"""Text: a profile written as TOML, every value with the words that explain it."""

from __future__ import annotations

from supervisor.model.limit_kinds import LIMITS, Rlimit
from supervisor.model.limits import show_limit
from supervisor.model.units import format_bytes
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


@value
class Entry:
    """One key to write: a plain value (text, number, boolean, list, dict) and its reason."""

    key: str
    item: Any
    reason: str = ""


def format_profile(name: str, entries: Sequence[Entry], sandbox: Sequence[Entry] = (), remarks: Sequence[str] = ()) -> str:
    """The text of a file with this one profile; ``remarks`` stand above it, each as a comment."""
    lines = [f"# {_one_line(remark)}" for remark in remarks]
    lines.append(f"[profile.{toml_key(name)}]")
    lines += map(_line, entries)
    if sandbox:
        lines += ["", f"[profile.{toml_key(name)}.sandbox]", *map(_line, sandbox)]
    return "\n".join(lines) + "\n"


def _line(entry: Entry) -> str:
    said = f"{toml_key(entry.key)} = {toml_value(entry.item)}"
    return f"{said}  # {_one_line(entry.reason)}" if entry.reason else said


def _one_line(text: str) -> str:
    """Text fit for a comment: TOML takes no control characters there."""
    return "".join(char if char.isprintable() else " " for char in text)


def limit_text(name: str, amount: Any) -> str:
    """A limit as a policy file says it: as :func:`show_limit`, with the sizes of rlimits in K, M and G as well."""
    if isinstance(amount, Rlimit) and LIMITS[name].unit == "bytes":
        soft, hard = format_bytes(amount.soft), format_bytes(amount.hard)
        return soft if soft == hard else f"{soft}:{hard}"
    return show_limit(name, amount)


def toml_key(key: str) -> str:
    """A key bare where it may be, else quoted."""
    bare = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if bare else toml_value(key)


def toml_value(item: Any) -> str:
    """A plain value as TOML; raises ``TypeError`` for anything else."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return str(item)
    if isinstance(item, str):
        return '"' + "".join(map(_escaped, item)) + '"'
    if isinstance(item, (list, tuple)):
        return "[" + ", ".join(map(toml_value, item)) + "]"
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(inner)}" for key, inner in item.items()) + " }"
    raise TypeError(f"{type(item).__name__} has no place in a policy file")


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char < " " or char == "\x7f":
        return f"\\u{ord(char):04x}"
    return "\ufffd" if "\ud800" <= char <= "\udfff" else char
