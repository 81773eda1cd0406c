# SPDX-License-Identifier: Apache-2.0
"""Positions: the line of every key of a TOML text, for messages that say where.

``tomllib`` keeps no positions and is the judge of what is TOML, so this scanner need not judge: it walks keys,
strings, arrays and tables of valid TOML 1.0 (and the line breaks TOML 1.1 allows in inline tables). In any
other text it is right up to the first mistake, and ends with an exception or with keys that mean nothing. That
it finds exactly the keys tomllib finds is a property test (tests/model/test_policy_positions.py).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Path = tuple[str | int, ...]

#: Parts of a dotted key that anybody needs. tomllib takes time by the square of their number, or worse.
KEY_PARTS_MAX: Final = 32

_BLANK: Final = " \t"
_BETWEEN: Final = " \t\r\n"
_ENDS_BARE_KEY: Final = " \t.=]"
_ENDS_SCALAR: Final = ",]}#\n"


class TooManyParts(Exception):
    """A dotted key has more than KEY_PARTS_MAX parts."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class Positions:
    """The lines of one text, found when the first is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[Path, int] | None = None

    def line(self, path: Path) -> int:
        """The line of the key, or of the nearest table above it."""
        if self._lines is None:
            self._lines = key_lines(self._text)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def key_lines(text: str) -> dict[Path, int]:
    """The line of every key, table and array item of a valid TOML text, counted from 1.

    A path is keys and indices: ``("profile", "judge", "bind", 0)``. A table that only longer keys imply
    stands where the first of them does. Raises ``RecursionError`` for values nested some hundred deep,
    :class:`TooManyParts`, and for a text that is no TOML perhaps ``IndexError`` or ``ValueError``.
    """
    return _Scanner(text).scan()


class _Scanner:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text + "\n"
        self._at = 0
        self._line_no = 1
        self._counted = 0  # newlines before this offset are in _line_no
        self._found: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # arrays of tables and how many each has so far

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_BETWEEN):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _line(self) -> int:
        self._line_no += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line_no

    def _skip(self, blank: str) -> bool:
        """Past blanks, and past comments where lines may end; False at the end of the text."""
        text, length = self._text, len(self._text)
        while self._at < length:
            if text[self._at] in blank:
                self._at += 1
            elif text[self._at] == "#" and "\n" in blank:
                self._at = text.index("\n", self._at)
            else:
                return True
        return False

    def _header(self) -> Path:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 1 + array
        key = self._key()
        self._at += 1 + array
        path = self._above((), key, line)
        if array:
            self._found.setdefault(path, line)
            number = self._tables.get(path, 0)
            self._tables[path] = number + 1
            path = (*path, number)
        self._found[path] = line
        return path

    def _above(self, path: Path, key: tuple[str, ...], line: int) -> Path:
        """The path of a dotted key; the tables it implies are noted, and an array of tables means its last."""
        for part in key[:-1]:
            path = (*path, part)
            self._found.setdefault(path, line)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return (*path, key[-1])

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = self._above(table, self._key(), line)
        self._found[path] = line
        self._at += 1  # the equals sign
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        """The parts of a key; stops at what follows it, ``=`` or ``]``."""
        parts: list[str] = []
        while True:
            if len(parts) == KEY_PARTS_MAX:
                raise TooManyParts(self._line())
            self._skip(_BLANK)
            start = self._at
            if self._text[start] in "\"'":
                self._string()
                parts.append(_unquoted(self._text[start : self._at]))
            else:
                while self._text[self._at] not in _ENDS_BARE_KEY:
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _string(self) -> None:
        """Past a string of any of the four kinds."""
        text, quote = self._text, self._text[self._at]
        triple = text.startswith(quote * 3, self._at)
        end = quote * 3 if triple else quote
        self._at += len(end)
        while not text.startswith(end, self._at):
            self._at += 2 if text[self._at] == "\\" and quote == '"' else 1
        self._at += len(end)
        while triple and text[self._at] == quote:  # up to two quotes may stand right before the closing three
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._items(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._text[self._at] not in _ENDS_SCALAR:
                self._at += 1

    def _items(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._skip(_BETWEEN) and self._text[self._at] != "]":
            item, begun = (*path, number), self._at
            self._found[item] = self._line()
            self._value(item)
            number += 1
            self._separator()
            if self._at == begun:
                raise ValueError("neither a value nor the end of an array")
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip(_BETWEEN) and self._text[self._at] != "}":
            self._pair(path)
            self._separator()
        self._at += 1

    def _separator(self) -> None:
        if self._skip(_BETWEEN) and self._text[self._at] == ",":
            self._at += 1


def _unquoted(raw: str) -> str:
    if raw[0] == "'" or "\\" not in raw:
        return raw[1:-1]
    import tomllib

    return str(tomllib.loads(f"key = {raw}")["key"])
