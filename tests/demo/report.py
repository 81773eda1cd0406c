# SPDX-License-Identifier: Apache-2.0
"""The demo's words: the table, who enforced what, the checks. Plain ASCII text, 100 columns by default."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.demo.invoke import Ran

HEADINGS = ("command", "verdict", "expected", "cpu", "wall", "memory", "enforced by")
RIGHT = frozenset((3, 4, 5))
GAP = "  "
LEAST_LAST = 24
KINDS = ("by the kernel", "by Ringfence's own counters and timers", "sampled", "not enforced")
#: The directory of one supervisor in a path: the same warning comes once from each.
OWN_CGROUP = re.compile(r"/ringfence-\d+-\d+")
KERNEL, OWN, SAMPLED, NOT = KINDS


def _seconds(ns: int | None) -> str:
    return "-" if ns is None else f"{ns / 1e9:.2f}s"


def _memory(usage: dict[str, Any]) -> str:
    whole, main = usage.get("memory_peak_bytes"), usage.get("rss_peak_main_bytes")
    if whole is not None:
        return f"{whole / 2**20:.0f}M"
    return "-" if main is None else f"~{main / 2**20:.0f}M"


def _row(ran: Ran) -> tuple[str, ...]:
    usage = ran.outcome.get("usage", {})
    mark = "" if not ran.problems else "! "
    how = ran.enforcement(ran.case.matters)
    times = (_seconds(usage.get("cpu_ns")), _seconds(usage.get("wall_ns")), _memory(usage))
    return (mark + ran.case.name, ran.verdict, ran.case.verdict, *times, f"{ran.case.matters}: {how}" if how else "-")


def table(runs: Iterable[Ran], columns: int) -> str:
    """The aligned table; the last column is wrapped into what is left of the width."""
    rows = [HEADINGS, *(_row(ran) for ran in runs)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADINGS) - 1)]
    indent = sum(widths) + len(GAP) * len(widths)
    last = max(LEAST_LAST, columns - indent)
    lines = []
    for number, row in enumerate(rows):
        cells = [text.rjust(width) if at in RIGHT else text.ljust(width) for at, (text, width) in enumerate(zip(row, widths, strict=False))]
        wrapped = textwrap.wrap(row[-1], last, break_on_hyphens=False) or [""]
        lines.append(GAP.join([*cells, wrapped[0]]))
        lines += [" " * indent + more for more in wrapped[1:]]
        if number == 0:
            lines.append(GAP.join("-" * width for width in (*widths, last)))
    return "\n".join(line.rstrip() for line in lines)


def legend(runs: Iterable[Ran]) -> str:
    """What the marks in the memory column mean, when they occur."""
    marks = {_memory(ran.outcome.get("usage", {}))[0] for ran in runs}
    words = {"~": "~ peak of the main process alone", "-": "- not known on this machine"}
    used = [text for mark, text in words.items() if mark in marks]
    return f"memory: peak of the whole tree{'; ' if used else ''}{'; '.join(used)}"


def _kind(words: str) -> str:
    if words.startswith("sampled"):
        return SAMPLED
    if words.startswith("none (best effort)"):
        return NOT
    return KERNEL if words.startswith(("cgroup ", "RLIMIT_")) and "timer" not in words else OWN


def by_kind(runs: Iterable[Ran]) -> dict[str, list[str]]:
    """The limits of all outcomes by who enforced them; a limit that was held in different ways is in several."""
    made: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for ran in runs:
        for name, words in ran.outcome.get("enforcement", {}).items():
            if name != "tree" and not words.startswith("none needed"):
                made[_kind(words)].add(name)
    return {kind: sorted(names) for kind, names in made.items()}


def enforcement(runs: list[Ran], columns: int) -> str:
    """Who enforces what on this machine, and why not the rest."""
    kinds = by_kind(runs)
    trees = sorted({ran.enforcement("tree") for ran in runs if ran.enforcement("tree")})
    reasons = sorted({OWN_CGROUP.sub("", text) for ran in runs for text in ran.outcome.get("warnings", ())})
    lines = ["Enforced here:" if trees else "Nothing ran."]
    lines += [_item(f"{kind}: {', '.join(names) or 'nothing'}", columns) for kind, names in kinds.items()]
    lines += [_item(f"the tree of processes, by: {text}", columns) for text in trees]
    lines += [_item(f"warning: {text}", columns) for text in reasons]
    if kinds[SAMPLED] or kinds[NOT]:
        lines.append(_item("This machine lets the kernel enforce only a part: run ./dev demo-vm to see all of it.", columns))
    return "\n".join(lines)


def _item(text: str, columns: int) -> str:
    return textwrap.fill(text, columns, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def checks(results: Iterable[tuple[str, str, list[str]]], columns: int) -> str:
    """One line for each check: (subject, proof, problems)."""
    lines = ["Checked:"]
    for subject, proof, problems in results:
        lines += [_item(f"FAIL  {subject}: {text}", columns) for text in problems] or [_item(f"ok    {subject}: {proof}", columns)]
    return "\n".join(lines)


def document(runs: Iterable[Ran], problems: list[str]) -> dict[str, Any]:
    """All of it as data."""
    cases = [
        {
            "name": ran.case.name,
            "profile": ran.case.profile,
            "argv": ran.argv,
            "expected": ran.case.verdict,
            "verdict": ran.verdict,
            "exit_status": ran.status,
            "proof": ran.proof,
            "problems": ran.problems,
            "outcome": ran.outcome or None,
        }
        for ran in runs
    ]
    return {"version": 1, "passed": not problems, "problems": problems, "enforcement": by_kind(runs), "cases": cases}
