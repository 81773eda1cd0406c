# SPDX-License-Identifier: Apache-2.0
"""Files in and out of a work directory: names, patterns, caps, and what came of a collection. Pure.

A pattern is a relative path whose components may hold ``*``, ``?`` and ``[...]``; the component ``**`` stands for
any number of directories, and last for everything below.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.units import parse_bytes
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Final

NAME_MAX_BYTES: Final = 255
PATH_MAX_BYTES: Final = 4000

#: Why a file was left out.
LINK, SPECIAL, HARD_LINK, UNREADABLE, CHANGING = "symbolic_link", "special_file", "foreign_hard_link", "unreadable", "changing"
BYTES, FILES, DEPTH, ENTRIES = "bytes_max", "files_max", "depth_max", "entries_max"


@value
class TransferCaps:
    """How much one collection or one look round takes at most; construction raises :class:`ConfigError`.

    ``bytes_max``: of all files together, counted as a reader would get them, holes included. ``files_max``: files
    collected. ``depth_max``: directories below the work directory. ``entries_max``: names looked at.
    """

    bytes_max: Any = 64 << 20
    files_max: int = 1000
    depth_max: int = 32
    entries_max: int = 50_000

    def _check(self) -> None:
        problems = []
        try:
            amount = parse_bytes(self.bytes_max)
            set_field(self, "bytes_max", amount if amount == float("inf") else int(amount))
        except ValueError as error:
            problems.append(f"bytes_max: {error}")
        problems += [
            f"{name}: must be a number, 0 or more"
            for name in ("files_max", "depth_max", "entries_max")
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0
        ]
        if problems:
            raise ConfigError(*[f"caps: {problem}" for problem in problems])


@value
class CollectedFile:
    """One regular file as it was read: ``size_bytes`` with its holes, ``content`` unless it went to ``path``."""

    size_bytes: int
    executable: bool = False
    content: bytes | None = None
    path: str = ""


@value
class Collected:
    """What a collection brought: files by name, and what matched but was left out, with the reason.

    Names are relative; bytes that are not UTF-8 are kept as os.fsdecode keeps them. ``complete`` is false when a
    cap ended the look round before everything was seen.
    """

    files: Mapping[str, CollectedFile] = {}
    skipped: Mapping[str, str] = {}
    complete: bool = True

    def __getitem__(self, name: str) -> bytes:
        """The content of a file; raises KeyError, naming the reason where it was left out."""
        found = self.files.get(name)
        if found is None or found.content is None:
            reason = self.skipped.get(name)
            raise KeyError(f"{name}: left out ({reason})" if reason else name)
        return found.content

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without contents."""
        files = [{"name": json_name(name), "size_bytes": file.size_bytes} for name, file in self.files.items()]
        skipped = [{"name": json_name(name), "reason": reason} for name, reason in self.skipped.items()]
        return {"files": files, "skipped": skipped, "complete": self.complete}


def json_name(name: str) -> Any:
    """A name for JSON: text, or ``{"base64": ...}`` when it is not UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        import binascii

        return {"base64": binascii.b2a_base64(name.encode("utf-8", "surrogateescape"), newline=False).decode("ascii")}
    return name


# ---- names ----


def parse_name(name: Any) -> tuple[str, ...]:
    """The components of a relative file name that stays below its directory; raises ConfigError."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"files: {name!r} is not a name such as 'in/task.txt'")
    shown = repr(name[:80])
    if name.startswith("/"):
        raise ConfigError(f"files: {shown} is absolute; names are relative to the work directory")
    parts = tuple([part for part in name.split("/") if part not in ("", ".")])
    if ".." in parts or not parts or name.endswith("/"):
        raise ConfigError(f"files: {shown} must name a file below the work directory, without '..'")
    raw = [_raw(part, shown) for part in parts]
    if any(b"\0" in part for part in raw) or max(map(len, raw)) > NAME_MAX_BYTES or sum(map(len, raw)) + len(raw) > PATH_MAX_BYTES:
        raise ConfigError(f"files: {shown} is no name the kernel takes (a NUL, or too long)")
    return parts


def _raw(part: str, shown: str) -> bytes:
    try:
        return part.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigError(f"files: {shown} holds a lone surrogate, for which there are no bytes") from None


def parse_files(files: Mapping[str, Any]) -> dict[str, Any]:
    """Files by normal name; raises :class:`ConfigError` with every problem found, two names for one place included."""
    problems: list[str] = []
    made: dict[str, Any] = {}
    if not hasattr(files, "items"):
        raise ConfigError("files: must be a dict such as {'in.txt': b'...'}")
    for name, content in files.items():
        try:
            normal = "/".join(parse_name(name))
        except ConfigError as error:
            problems += error.problems
            continue
        if normal in made:
            problems.append(f"files: {normal!r} is given twice")
        if not isinstance(content, (bytes, bytearray, memoryview)) and not hasattr(content, "__fspath__"):
            problems.append(f"files: {normal!r}: must be bytes, or a Path of a file to copy, not {type(content).__name__}")
        made[normal] = content
    if problems:
        raise ConfigError(*problems)
    return made


# ---- patterns ----


def parse_patterns(patterns: Any) -> tuple[tuple[str, ...], ...]:
    """Patterns as components; raises :class:`ConfigError` with every problem found."""
    if isinstance(patterns, str):
        patterns = [patterns]
    problems: list[str] = []
    made = []
    for pattern in patterns:
        try:
            made.append(parse_name(pattern))
        except ConfigError as error:
            problems += [problem.replace("files:", "collect:", 1) for problem in error.problems]
    if problems:
        raise ConfigError(*problems)
    return tuple(made)


def wanted(patterns: Iterable[tuple[str, ...]], parts: tuple[str, ...]) -> bool:
    """Some pattern matches the whole name."""
    return any(_ends(pattern, parts) for pattern in patterns)


def leads_on(patterns: Iterable[tuple[str, ...]], parts: tuple[str, ...]) -> bool:
    """Something below this directory could match."""
    return any(left for pattern in patterns for left in _left(pattern, parts))


def _ends(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return any(all(item == "**" for item in left) for left in _left(pattern, parts))


def _left(pattern: tuple[str, ...], parts: tuple[str, ...]) -> set[tuple[str, ...]]:
    """What of the pattern is left to match after these components, in every way they can match."""
    states = set(_opened(pattern))
    for part in parts:
        states = {next_ for state in states if state for next_ in _step(state, part)}
    return states


def _opened(pattern: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The pattern itself, and without the ``**`` it begins with: that may stand for nothing."""
    yield pattern
    if pattern and pattern[0] == "**" and len(pattern) > 1:
        yield from _opened(pattern[1:])


def _step(state: tuple[str, ...], part: str) -> Iterator[tuple[str, ...]]:
    if state[0] == "**":
        yield from _opened(state)
    elif matches(state[0], part):
        yield from _opened(state[1:])


def matches(pattern: str, name: str) -> bool:
    """One component against one name, as fnmatch.fnmatchcase does; the time is at most their product."""
    items = list(_items(pattern))
    at = n = held = 0
    star = -1
    while n < len(name):
        if at < len(items) and items[at] is None:
            star, held = at, n
            at += 1
        elif at < len(items) and (found := items[at]) is not None and _takes(found, name[n]):
            at, n = at + 1, n + 1
        elif star >= 0:
            held += 1
            at, n = star + 1, held
        else:
            return False
    return all(item is None for item in items[at:])


def _items(pattern: str) -> Iterator[tuple[bool, str] | None]:
    """None for ``*``, else (negated, characters and ranges); of ``?`` nothing, negated."""
    n = 0
    while n < len(pattern):
        char = pattern[n]
        n += 1
        if char == "*":
            yield None
        elif char == "?":
            yield True, ""
        elif char == "[" and (end := pattern.find("]", n + (2 if pattern[n : n + 1] == "!" else 1))) > 0:
            inner, n = pattern[n:end], end + 1
            yield inner.startswith("!"), inner.removeprefix("!")
        else:
            yield False, char


def _takes(item: tuple[bool, str], char: str) -> bool:
    negated, chars = item
    n, found = 0, False
    while n < len(chars):
        if n + 2 < len(chars) and chars[n + 1] == "-":
            found |= chars[n] <= char <= chars[n + 2]
            n += 3
        else:
            found |= chars[n] == char
            n += 1
    return found != negated
