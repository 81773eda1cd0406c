# SPDX-License-Identifier: Apache-2.0
"""The documents: every example runs and prints what it says, every link leads somewhere.

A fenced ``python`` block runs as a script; when an ``output`` block follows, its standard output must
match. In a ``console`` block each ``$ `` line runs with ``sh -c`` and both its streams must match what
follows (nothing follows: anything goes). In what is expected ``...`` stands for the rest of a line, or
alone on a line for any number of lines, a measured amount such as ``201 ms`` or ``64.0 MiB`` matches any
other, and so does the memory at the end of a summary, which some hosts do not know. Comments before a block: ``<!-- needs: memory -->`` names what the host must have (see
tests/facts.py), ``<!-- file: NAME -->`` puts the block into a file for all examples of the document.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(
    path for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("systemd/*.md"))) if path.is_file()
)
RUNNABLE = ("python", "console")
PATIENCE = 30
FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
COMMENT = re.compile(r"^<!-- (needs|file): (.+?) -->$")
#: 201 ms, 1.02 s, 64.0 MiB: what format_duration_human and format_bytes_human print.
AMOUNT = re.compile(r"\d+(?:\.\d+)?(?: (?:ns|us|ms|s|B|KiB|MiB|GiB)\b|min \d+s)")
MEMORY_TAIL = re.compile(r"(wall <amount>) memory <amount>$", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block with the comments before it and the output block behind it."""

    document: Path
    line: int
    language: str
    text: str
    needs: tuple[str, ...]
    file: str
    output: str | None

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


class _Fenced(NamedTuple):
    line: int
    language: str
    text: str
    comments: dict[str, str]
    adjacent: bool  # nothing but blank lines since the block before


def _fenced(text: str) -> Iterator[_Fenced]:
    """The fenced blocks of one document in order."""
    comments: dict[str, str] = {}
    adjacent = False
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if fence := FENCE.match(line):
            body: list[str] = []
            for _, inner in lines:
                if inner.rstrip() == fence[1]:
                    break
                body.append(inner)
            yield _Fenced(number, fence[2], "\n".join(body) + "\n", comments, adjacent)
            comments, adjacent = {}, True
        elif comment := COMMENT.match(line):
            comments[comment[1]] = comment[2]
            adjacent = False
        elif line.strip():
            comments, adjacent = {}, False


def blocks(document: Path) -> list[Block]:
    """The blocks of one document, each with its output."""
    found: list[Block] = []
    for fenced in _fenced(document.read_text(encoding="utf-8")):
        if fenced.language == "output" and fenced.adjacent and found:
            found[-1] = found[-1]._replace(output=fenced.text)
            continue
        needs = tuple(fenced.comments.get("needs", "").replace(",", " ").split())
        found.append(Block(document, fenced.line, fenced.language, fenced.text, needs, fenced.comments.get("file", ""), None))
    return found


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def unmeasured(text: str) -> str:
    """The text with a placeholder for every measured amount."""
    return MEMORY_TAIL.sub(r"\1", AMOUNT.sub("<amount>", text)).strip("\n")


def matches(expected: str, got: str) -> bool:
    """``expected`` with its ``...`` and amounts against what really came."""
    parts = []
    for line in unmeasured(expected).splitlines():
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.rstrip().split("...")) + r"[ \t]*\n")
    actual = unmeasured(got)
    return re.fullmatch("".join(parts), actual + "\n" if actual else "") is not None


def sessions(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output expected of it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line[2:], "")
        else:
            assert found, f"a console block begins with a command, not {line!r}"
            command, output = found[-1]
            found[-1] = (command, output + line + "\n")
    return found


def environment() -> dict[str, str]:
    """Ours, with the commands beside this interpreter first on PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}", "PYTHONDONTWRITEBYTECODE": "1"}


def run(command: list[str], folder: Path, *, together: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if together else subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def run_python(block: Block, folder: Path) -> None:
    script = folder / "example.py"
    script.write_text(block.text, encoding="utf-8")
    done = run([sys.executable, "-W", "error", str(script)], folder, together=False)
    assert done.returncode == 0, done.stderr
    assert block.output is None or matches(block.output, done.stdout), f"expected:\n{block.output}\ngot:\n{done.stdout}"


def run_console(block: Block, folder: Path) -> None:
    for command, expected in sessions(block.text):
        done = run(["sh", "-c", command], folder, together=True)
        assert not expected or matches(expected, done.stdout), f"$ {command}\nexpected:\n{expected}\ngot:\n{done.stdout}"


def examples() -> list[object]:
    chosen = [block for block in BLOCKS if block.language in RUNNABLE]
    return [pytest.param(block, id=block.name, marks=pytest.mark.requires(*block.needs)) for block in chosen]


@pytest.mark.parametrize("block", examples())
def test_an_example_runs_and_prints_what_the_document_says(block: Block, tmp_path: Path) -> None:
    for other in BLOCKS:
        if other.document == block.document and other.file:
            (tmp_path / other.file).write_text(other.text, encoding="utf-8")
    (run_python if block.language == "python" else run_console)(block, tmp_path)


# the documents themselves

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def prose(document: Path) -> str:
    """The text without fenced blocks and code spans."""
    kept, inside = [], False
    for line in document.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line) or (inside and line.startswith("```")):
            inside = not inside
        elif not inside:
            kept.append(line)
    return re.sub(r"`[^`]*`", "", "\n".join(kept))


def anchors(document: Path) -> set[str]:
    """The fragments of a document's headings, as GitHub makes them."""
    found = set()
    inside = False
    for line in document.read_text(encoding="utf-8").splitlines():
        inside ^= bool(FENCE.match(line) or (inside and line.startswith("```")))
        if not inside and (heading := re.match(r"#+ (.+)", line)):
            found.add(re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-"))
    return found


def by_path(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_path)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(prose(document)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, fragment = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists() or not place.is_relative_to(ROOT) or (fragment and fragment not in anchors(place)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_path)
def test_every_block_says_what_it_is(document: Path) -> None:
    """A language on each, so that none is passed over by accident; needs and files have a meaning."""
    import facts

    for block in blocks(document):
        assert block.language in (*RUNNABLE, "text", "toml", "sh", "ini", "json", "c"), block.name
        assert set(block.needs) <= facts.PROBES.keys(), block.name


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/**/*.md")), ids=by_path)
def test_every_page_can_be_reached_from_the_readme(document: Path) -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = (target.partition("#")[0] for target in LINK.findall(prose(page)))
        found = ((page.parent / target).resolve() for target in targets if target.endswith(".md") and "://" not in target)
        waiting += [place for place in found if place.exists()]
    assert document in seen


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


# the harness

MATCHING = [
    ("a\n", "a\n", True),
    ("a\n", "b\n", False),
    ("a ... c\n", "a anything c\n", True),
    ("a\n...\nz\n", "a\nb\nc\nz\n", True),
    ("a\n...\nz\n", "a\nz\n", True),
    ("...\n", "", True),
    ("cpu 201 ms wall 1.02 s\n", "cpu 199 ms wall 440 ms\n", True),
    ("wall 1.02 s\n", "wall 440 ms memory 64.0 MiB\nx\n", False),
    ("wall 1.02 s\nx\n", "wall 440 ms memory 64.0 MiB\nx\n", True),
    ("exit 3\n", "exit 4\n", False),
    ("a\n", "a\nb\n", False),
]


@pytest.mark.parametrize(("expected", "got", "same"), MATCHING)
def test_output_is_compared_as_the_top_of_this_file_says(expected: str, got: str, same: bool) -> None:
    assert matches(expected, got) is same


def test_a_console_block_is_commands_with_their_output() -> None:
    assert sessions("$ a \\\n> b\nx\n$ c\n") == [("a \\\nb", "x\n"), ("c", "")]
