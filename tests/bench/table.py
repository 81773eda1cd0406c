# SPDX-License-Identifier: Apache-2.0
"""Results as text for a terminal and as Markdown for docs/."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable
from statistics import median

from tests.bench.model import Role
from tests.bench.results import Results, Verdict

Row = tuple[str, ...]
HEAD: Row = ("contender", "median", "min - max", "of limit", "ours vs it")
NOTE = "of limit: 1.00 is as good as the limit, less is worse. ours vs it: above 1.00 ours is the better one."


def number(value: float | None) -> str:
    """Four significant digits, or nothing."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def key_rows(results: Results, key: str) -> list[Row]:
    """The rows of one key's table, head first."""
    section = results.section
    limit, ours = section.first(Role.LIMIT), section.first(Role.OURS)
    rows = [HEAD]
    for contender in section.contenders:
        values = results.values.get(contender.name, {}).get(key)
        if values:
            span = f"{number(min(values))} - {number(max(values))}"
            ratios = (number(results.quality(contender.name, limit, key)), number(results.quality(ours, contender.name, key)))
            rows.append((contender.name, number(median(values)), span, *ratios))
    return rows


def lone_rows(results: Results) -> list[Row]:
    """One table for all keys, where a contender has nobody beside it."""
    rows: list[Row] = [("what", "median", "min - max", "unit")]
    for key in results.section.keys:
        for values in (by_key[key] for by_key in results.values.values() if key in by_key):
            rows.append((key, number(median(values)), f"{number(min(values))} - {number(max(values))}", results.units[key]))
    return rows


def tables(results: Results) -> list[tuple[str, list[Row]]]:
    """A section's tables, each with its caption: one for each key."""
    if len(results.section.contenders) == 1:
        return [(results.section.contenders[0].name, lone_rows(results))]
    measured = [(key, better.value) for key, better in results.section.keys.items() if key in results.units]
    return [(f"{key}, {results.units[key]} ({better} is better)", key_rows(results, key)) for key, better in measured]


def aligned(rows: list[Row]) -> str:
    """Columns padded to the same width, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("   ".join([f"  {row[0].ljust(widths[0])}", *numbers]).rstrip())
    return "\n".join(lines)


def piped(rows: list[Row], numbers: bool = True) -> str:
    """A Markdown table, all columns but the first of numbers or of text."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| --- |" + (" ---: |" if numbers else " --- |") * (len(rows[0]) - 1), *lines[1:]])


def remarks(results: Results) -> list[str]:
    """Who was not there, who failed, and how noisy the machine was."""
    lines = [f"not here: {name}: {reason}" for name, reason in results.section.missing.items()]
    lines += [f"FAILED: {name}: {reason}" for name, reason in results.failures.items()]
    if busy := results.others_busy:
        lines.append(f"busy with other work: {median(busy):.0%} of the machine (median), {max(busy):.0%} (most)")
    return lines


def text_of(results: Results) -> str:
    """One section for a terminal."""
    parts = [f"== {results.section.title}"]
    parts += [f"-- {caption}\n{aligned(rows)}" for caption, rows in tables(results)]
    return "\n".join([*parts, *(f"  {line}" for line in remarks(results))]) + "\n"


def markdown_of(all_results: Iterable[Results], verdicts: Iterable[Verdict], command: str) -> str:
    """The whole run as a page with a date."""
    parts = [f"# Benchmarks of {datetime.date.today().isoformat()}", "", f"`{command}` on {host()}.", "", NOTE]
    for results in all_results:
        parts += ["", f"## {results.section.title}"]
        for caption, rows in tables(results):
            parts += ["", caption, "", piped(rows)]
        parts += ["", *(f"- {line}" for line in remarks(results))]
    parts += ["", "## Budgets", ""]
    found = [(v.word, "must" if v.budget.must else "aim", v.section, v.text) for v in verdicts]
    parts.append(piped([("verdict", "kind", "row", "figures"), *found], numbers=False))
    return "\n".join(parts) + "\n"


def host() -> str:
    """The machine in a few words."""
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, CPython {platform.python_version()}, uid {os.geteuid()}"
