# SPDX-License-Identifier: Apache-2.0
"""Positions: the keys tomllib finds, each on the line where it stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.policy.positions import Positions, key_lines

Path = tuple[str | int, ...]

#: What would lead a scanner astray: everything that means something outside of a string.
TRICKY = ["", "]", "}", "[[", "#", "= 1", "'''", "{", ",", "a.b", "\\", "\t", "\u00fc", "k", "\U0001f600"]


def walk(item: Any, path: Path = ()) -> Iterator[Path]:
    """Every key and every array item of what tomllib read."""
    inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for key, below in inner:
        yield (*path, key)
        yield from walk(below, (*path, key))


class Writer:
    """TOML text under way, with keys that occur once each, and the line where each was written."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.text = ""
        self.lines: dict[str, int] = {}

    def pick(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def write(self, text: str) -> None:
        self.text += text

    def key(self) -> None:
        """A key of one to three parts, bare or quoted, blanks around its dots."""
        for number in range(self.pick(1, 1, 1, 2, 3)):
            if number:
                self.write(self.pick(".", " . "))
            name = f"k{len(self.lines)}" + self.pick("", "", "-x")
            written = self.pick(name, name, f"'{name}#]'", f'"{name}=\\u00e9"', f'"{name}\\""')
            said = str(list(tomllib.loads(f"{written} = 1"))[0])
            self.lines[said] = self.text.count("\n") + 1
            self.write(written)

    def gap(self, *, lines: bool) -> None:
        self.write(self.pick("", " ", "\t", *(("\n", "\r\n", " # ] } = [x]\n", "\n\n") if lines else ())))

    def value(self, depth: int) -> None:
        kind = self.pick("number", "basic", "literal", "long", "long literal", *(("array", "inline") if depth else ()))
        word = "".join(self._draw(st.lists(st.sampled_from(TRICKY), max_size=4)))
        if kind == "number":
            self.write(self.pick("1", "-0.5e3", "true", "1979-05-27 07:32:00", "0xdead", "inf", "07:32:00"))
        elif kind == "basic":
            self.write(json.dumps(word, ensure_ascii=False))
        elif kind == "literal":
            self.write("'" + word.replace("'", "") + "'")
        elif kind == "long":
            body = word.replace("\\", "\\\\").replace("'''", '"" ')
            self.write('"""' + self.pick("", "\n", "\\\n  ") + body + self.pick("", "\n[x]\n", '""', '"', '\\"""\\"'))
            self.write('"""')
        elif kind == "long literal":
            self.write("'''" + self.pick("", "\n") + word.replace("'", "") + self.pick("", "\nq = 1\n", "''", '"""') + "'''")
        elif kind == "array":
            self.many("[", "]", lambda: self.value(depth - 1), lines=True)
        else:
            self.many("{", "}", lambda: self.pair(depth - 1), lines=False)

    def many(self, begin: str, end: str, item: Any, *, lines: bool) -> None:
        self.write(begin)
        for number in range(self._draw(st.integers(0, 3))):
            self.write("," if number else "")
            self.gap(lines=lines)
            item()
            self.gap(lines=lines)
        self.write(end)

    def pair(self, depth: int) -> None:
        self.key()
        self.gap(lines=False)
        self.write("=")
        self.gap(lines=False)
        self.value(depth)


@st.composite
def documents(draw: Any) -> Writer:
    writer = Writer(draw)
    for _ in range(draw(st.integers(0, 6))):
        writer.gap(lines=True)
        kind = writer.pick("pair", "pair", "table", "tables")
        if kind == "pair":
            writer.pair(2)
        else:
            writer.write("[" if kind == "table" else "[[")
            writer.gap(lines=False)
            writer.key()
            writer.gap(lines=False)
            writer.write("]" if kind == "table" else "]]")
        writer.write(writer.pick("\n", " # c [x]\n", "\r\n"))
    return writer


@given(documents())
def test_every_key_that_tomllib_finds_has_the_line_where_it_was_written(document: Writer) -> None:
    found = key_lines(document.text)
    assert set(found) == set(walk(tomllib.loads(document.text)))
    assert {path[-1]: line for path, line in found.items() if isinstance(path[-1], str)} == document.lines


ARRAYS = """\
[[p]]
x = 1
[p.q]
y = 2
[[p]]
[[p.r]]
z = [
  1,

  [2, 3], { w = 4 } ]
"""


def test_a_table_below_an_array_of_tables_belongs_to_its_last() -> None:
    assert key_lines(ARRAYS) == {
        ("p",): 1,
        ("p", 0): 1,
        ("p", 0, "x"): 2,
        ("p", 0, "q"): 3,
        ("p", 0, "q", "y"): 4,
        ("p", 1): 5,
        ("p", 1, "r"): 6,
        ("p", 1, "r", 0): 6,
        ("p", 1, "r", 0, "z"): 7,
        ("p", 1, "r", 0, "z", 0): 8,
        ("p", 1, "r", 0, "z", 1): 10,
        ("p", 1, "r", 0, "z", 1, 0): 10,
        ("p", 1, "r", 0, "z", 1, 1): 10,
        ("p", 1, "r", 0, "z", 2): 10,
        ("p", 1, "r", 0, "z", 2, "w"): 10,
    }


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("[a.b]\n[a]\nc = 1\n", ("a",), 2),  # implied first, written later: where it is written
        ("a.b = 1\na.c = 2\n", ("a",), 1),
        ("[x]\n", ("x", "missing", 0), 1),  # the nearest table above
        ("\n\n[x]\n", ("missing",), 1),
        ("", (), 1),
    ],
)
def test_the_line_of_a_key_or_of_what_stands_above_it(text: str, path: Path, line: int) -> None:
    assert Positions(text).line(path) == line
