# SPDX-License-Identifier: Apache-2.0
"""The command of the demo: run every program, print what came of it, fail on any difference."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.demo import remains, report
from tests.demo.cases import CASES, POLICY, ROOT, Case
from tests.demo.invoke import DemoError, Ran, Runner

FAILED, BROKEN, INTERRUPTED = 1, 2, 130
COLUMNS_LEAST, COLUMNS_MOST = 100, 160


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when all is as expected, 1 when not, 2 when the demo could not run, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="Real and hostile programs through 'ringfence run'.")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all outcomes there as one JSON document")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder and say where it is")
    parser.add_argument("--strict", action="store_true", help="fail when a limit was sampled or not enforced")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    remains.become_subreaper()
    scratch = Path(tempfile.mkdtemp(prefix="ringfence-demo-")).resolve()
    try:
        return _demo(scratch, options)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return BROKEN
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        remains.kill_processes(scratch.name)
        _remove(scratch, options.keep)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _remove(scratch: Path, keep: bool) -> None:
    if keep:
        print(f"kept: {scratch}")
    else:
        shutil.rmtree(scratch, ignore_errors=True)


class _Progress:
    """Says on standard error what is going on: one line that changes on a terminal, plain lines elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._live = sys.stderr.isatty()

    def _write(self, text: str, end: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}{end if end else ''}" if self._live else f"{text}{end}")
        sys.stderr.flush()

    def running(self, number: int, case: Case, seconds: float) -> None:
        if self._live:
            self._write(f"[{number:2}/{self._total}] {case.name} under {case.profile}: running, {seconds:.1f} s", "")

    def ended(self, number: int, ran: Ran, seconds: float) -> None:
        mark = "" if not ran.problems else f", but {ran.problems[0]}"
        self._write(f"[{number:2}/{self._total}] {ran.case.name} under {ran.case.profile}: {ran.verdict} after {seconds:.1f} s{mark}", "\n")


def _run_all(runner: Runner) -> list[Ran]:
    progress = _Progress(len(CASES))
    runs = []
    for number, case in enumerate(CASES, 1):
        began = time.monotonic()
        progress.running(number, case, 0.0)
        ran = runner.run(case, partial(progress.running, number, case))
        progress.ended(number, ran, time.monotonic() - began)
        runs.append(ran)
    return runs


def _demo(scratch: Path, options: argparse.Namespace) -> int:
    began = time.monotonic()
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    print(f"{len(CASES)} programs under one policy, {POLICY.relative_to(ROOT)}, as {who}", file=sys.stderr, flush=True)
    runner = Runner(scratch)
    runs = _run_all(runner)
    columns = min(COLUMNS_MOST, max(COLUMNS_LEAST, shutil.get_terminal_size((COLUMNS_LEAST, 24)).columns))
    results = [(ran.case.name, ran.proof, ran.problems) for ran in runs]
    results.append(("nothing left behind", *_left_behind(runner, options.keep)))
    if options.strict:
        results.append(("strict", "every limit was enforced", _lax(runs)))
    problems = [f"{subject}: {text}" for subject, _proof, texts in results for text in texts]
    print(report.table(runs, columns), report.legend(runs), "", sep="\n")
    print(report.enforcement(runs, columns), "", report.checks(results, columns), "", sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(runs, problems), indent=1) + "\n", encoding="utf-8")
    right = sum(ran.verdict == ran.case.verdict for ran in runs)
    print(f"{right} of {len(runs)} verdicts as expected, {len(problems)} differences, {time.monotonic() - began:.0f} s")
    return FAILED if problems else 0


def _lax(runs: list[Ran]) -> list[str]:
    """What --strict objects to."""
    if not all(ran.outcome for ran in runs):
        return ["not every program has an outcome that says who held its limits"]
    kinds = report.by_kind(runs)
    return [f"{name} was {kind}" for kind in (report.SAMPLED, report.NOT) for name in kinds[kind]]


def _left_behind(runner: Runner, keep: bool) -> tuple[str, list[str]]:
    """No process, no cgroup, no scratch folder: (proof, problems)."""
    problems = [f"{text} is still there" for text in (*remains.processes(runner.marker), *remains.cgroups(runner.pids))]
    if keep:
        return "no process, no cgroup (the scratch folder is kept)", problems
    with contextlib.suppress(OSError):
        shutil.rmtree(runner.scratch)
    if runner.scratch.exists():
        problems.append(f"the scratch folder {runner.scratch} cannot be removed")
    return "no process, no cgroup, no scratch folder", problems
