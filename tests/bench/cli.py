# SPDX-License-Identifier: Apache-2.0
"""The command line: which rows to run, how often, and what to do with the result."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from tests.bench import table
from tests.bench.model import Setting
from tests.bench.results import Results, Verdict, judge_all
from tests.bench.rounds import run_section
from tests.bench.rows import ROWS

ROUNDS = 5
QUICK_ROUNDS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows asked for; 1 when a contender of ours failed, or with ``--enforce`` a must was missed."""
    parser = _parser()
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join(ROWS)})")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    setting = Setting(quick=options.quick, many=options.many or (200 if options.quick else 2000))
    print(f"{table.host()}\n{rounds} rounds, interleaved, after one to warm up. {table.NOTE}\n", flush=True)
    found: list[Results] = []
    verdicts: list[Verdict] = []
    for name in options.names or ROWS:
        for section in ROWS[name](setting):
            results = run_section(section, rounds)
            found.append(results)
            verdicts += judge_all(results)
            print(table.text_of(results), flush=True)
    print("== Budgets", *(verdict.line for verdict in verdicts), sep="\n")
    if options.markdown:
        words = ["./dev", "bench", *options.names, "--rounds", str(rounds), *(["--quick"] if options.quick else [])]
        options.markdown.write_text(table.markdown_of(found, verdicts, shlex.join(words)), encoding="utf-8")
    failed = [name for results in found for name in results.failed_of_ours()]
    missed = [verdict for verdict in verdicts if verdict.budget.must and verdict.word == "MISS"]
    return 1 if failed or (options.enforce and missed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Our supervisor beside others, and PASS or MISS for each budget.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to run, all by default: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=_positive, help=f"counted rounds ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: shows that everything runs, proves nothing")
    parser.add_argument("--many", type=_positive, help="live children in the row 'many' (2000)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there as well")
    parser.add_argument("--enforce", action="store_true", help="exit status 1 when a budget that must be met is missed")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
