# SPDX-License-Identifier: Apache-2.0
"""The programs of the demo: what is run, under which profile, and what must come of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.demo import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.demo.invoke import Ran

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAMS = HERE / "programs"
POLICY = HERE / "demo.toml"
FORK_BOMB = PROGRAMS / "fork_bomb.c"


@dataclass(frozen=True)
class Case:
    """One program and its expected end.

    ``matters``: the entry of the outcome's ``enforcement`` that the table shows, the limit that must end it.
    ``argv``: the command, given the case's own scratch folder and the folder of built programs.
    ``check``: looks at what the program left and printed; raises AssertionError or returns the proof in words.
    """

    name: str
    argv: Callable[[Path, Path], list[str]]
    check: Callable[[Ran], str]
    profile: str = "hostile"
    verdict: str = "ok"
    matters: str = "tree"
    options: tuple[str, ...] = ()


def _python(name: str, *files: str) -> Callable[[Path, Path], list[str]]:
    return lambda folder, _built: [sys.executable, str(PROGRAMS / name), *(str(folder / file) for file in files)]


REAL = (
    Case(
        "compile.sh",
        lambda folder, _built: ["sh", str(PROGRAMS / "compile.sh"), str(ROOT / "native"), str(folder)],
        checks.objects_exist,
        profile="real",
    ),
    Case("compress.py", _python("compress.py", "library.tar.gz"), checks.digests_agree, profile="real"),
    Case("database.py", _python("database.py", "demo.db"), checks.rows_are_there, profile="real"),
    Case("numeric.py", _python("numeric.py"), checks.numbers_are_right, profile="real"),
)
HOSTILE = (
    Case("memory_bomb.py", _python("memory_bomb.py"), checks.ceiling_not_reported, verdict="memory_limit", matters="memory_max"),
    Case(
        "fork_bomb",
        lambda _folder, built: [str(built / "fork_bomb")],
        checks.forks_refused,
        profile="forks",
        verdict="tasks_limit",
        matters="tasks_max",
    ),
    Case("spinner.py", _python("spinner.py"), checks.cpu_within_reason, profile="spin", verdict="cpu_limit", matters="cpu_time_max"),
    Case("flood.py", _python("flood.py"), checks.output_capped, verdict="output_limit", matters="output_max"),
    Case(
        "deaf_sleeper.py",
        _python("deaf_sleeper.py"),
        checks.sigterm_was_ignored,
        profile="deaf",
        verdict="wall_limit",
        matters="wall_time_max",
        options=("--kill-grace", "1s"),
    ),
    Case("daemon.py", _python("daemon.py"), checks.daemon_is_gone),
    Case("idler.py", _python("idler.py"), checks.ended_early, profile="idle", verdict="idle_limit", matters="idle_time_max"),
    Case("big_file.py", _python("big_file.py", "big"), checks.file_capped, verdict="file_size_limit", matters="limit_fsize"),
)
CASES = (*REAL, *HOSTILE)
