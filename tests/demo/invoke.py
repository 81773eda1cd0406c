# SPDX-License-Identifier: Apache-2.0
"""One program through the real command: ``ringfence run`` as a process of its own, and what came of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.demo import remains
from tests.demo.cases import FORK_BOMB, POLICY, ROOT, Case

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 0.2
PATIENCE_S = 660.0
END_PATIENCE_S = 10.0
LIMIT_STATUS = 124
NAMED = 3
#: Every profile has these, so every outcome must say who held them.
ALWAYS_NAMED = ("tree", "memory_max", "tasks_max", "cpu_time_max", "wall_time_max", "output_max")


class DemoError(Exception):
    """The demo itself cannot go on; the text says why."""


@dataclass
class Ran:
    """What one case came to. ``problems``: each difference from what was expected, in words."""

    case: Case
    folder: Path
    marker: str
    argv: list[str]
    status: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    outcome: dict[str, Any] = field(default_factory=dict)
    proof: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return str(self.outcome.get("verdict", "no outcome"))

    def enforcement(self, name: str) -> str:
        """Who held a limit, in the outcome's words."""
        return str(self.outcome.get("enforcement", {}).get(name, ""))


def find_ringfence() -> str:
    """The ``ringfence`` script of the environment that runs the demo, else the one in PATH."""
    beside = Path(sys.executable).parent / "ringfence"
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which("ringfence")
    if found is None:
        raise DemoError(
            f"{beside} is missing and there is no ringfence in PATH: install the checkout into the environment of {sys.executable}"
        )
    return found


def build_programs(folder: Path) -> None:
    """Compile the one hostile program that is written in C."""
    if shutil.which("cc") is None:
        raise DemoError("a C compiler is missing: no 'cc' in PATH")
    made = subprocess.run(["cc", "-O2", "-o", str(folder / "fork_bomb"), str(FORK_BOMB)], capture_output=True, check=False, timeout=60)
    if made.returncode != 0:
        raise DemoError(f"cc cannot compile {FORK_BOMB}: {made.stderr.decode('utf-8', 'replace').strip()}")


class Runner:
    """Runs cases one after another below one scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.marker = scratch.name
        self.pids: list[int] = []
        self._ringfence = find_ringfence()
        self._built = scratch / "built"
        self._built.mkdir()
        build_programs(self._built)
        # root takes limits only from root's files, and a checkout may be anybody's
        self._policy = scratch / POLICY.name
        self._policy.write_bytes(POLICY.read_bytes())
        self._policy.chmod(0o644)

    def run(self, case: Case, tick: Callable[[float], None]) -> Ran:
        """Run one case to its end; ``tick`` is called now and then with the seconds so far."""
        folder = self.scratch / case.name
        folder.mkdir()
        result = self.scratch / f"{case.name}.json"
        command = case.argv(folder, self._built)
        argv = [
            self._ringfence,
            "run",
            "--policy",
            f"{self._policy}#{case.profile}",
            "--result",
            str(result),
            *case.options,
            "--",
            *command,
        ]
        ran = Ran(case=case, folder=folder, marker=self.marker, argv=argv)
        environment = os.environ | {remains.VARIABLE: self.marker}
        process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.pids.append(process.pid)
        try:
            self._wait(process, ran, tick)
        finally:
            _end(process)
        _read_outcome(ran, result)
        self._judge(ran)
        return ran

    def _wait(self, process: subprocess.Popen[bytes], ran: Ran, tick: Callable[[float], None]) -> None:
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            try:
                ran.stdout, ran.stderr = process.communicate(timeout=TICK_S)
            except subprocess.TimeoutExpired:
                tick(time.monotonic() - began)
                if process.poll() is not None:
                    self._free_output(ran)
            else:
                ran.status = process.returncode
                return
        ran.problems.append(f"ringfence run did not end within {PATIENCE_S:.0f} s")

    def _free_output(self, ran: Ran) -> None:
        """``ringfence run`` is over, but something it left behind holds its output open: name that and end it."""
        left = remains.processes(self.marker)
        if left:
            ran.problems.append(f"left behind, holding the output open: {_list(left)}")
            remains.kill_processes(self.marker)

    def _judge(self, ran: Ran) -> None:
        """Compare with what was expected and note every difference."""
        left = remains.processes(self.marker)
        if left:
            ran.problems.append(f"left behind: {_list(left)}")
        if not ran.outcome:
            return
        case = ran.case
        unnamed = [name for name in dict.fromkeys((*ALWAYS_NAMED, case.matters)) if not ran.enforcement(name)]
        if unnamed:
            ran.problems.append(f"the outcome does not say who enforced {', '.join(unnamed)}")
        if ran.verdict != case.verdict:
            ran.problems.append(f"verdict {ran.verdict}, expected {case.verdict}")
        status = 0 if case.verdict == "ok" else LIMIT_STATUS
        if ran.status != status:
            ran.problems.append(f"ringfence run exited {ran.status}, expected {status}")
        hit = ran.outcome["limits_hit"]
        wanted = [] if case.verdict == "ok" else [case.matters]
        if hit[:1] != wanted:
            ran.problems.append(f"limits_hit {hit}, expected {wanted}")
        try:
            ran.proof = case.check(ran)
        except (AssertionError, OSError, KeyError, ValueError) as error:
            ran.problems.append(f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}")


def _list(items: list[str]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(items[:NAMED]) + more


def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that ``ringfence run`` is over: asked first, so that it takes its job along."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()  # it may still wait for us to read
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(END_PATIENCE_S)
        except subprocess.TimeoutExpired:
            continue


def _read_outcome(ran: Ran, result: Path) -> None:
    try:
        ran.outcome = json.loads(result.read_bytes())
    except (OSError, ValueError) as error:
        said = ran.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        why = f"unreadable: {error}" if isinstance(error, ValueError) else error.strerror
        ran.problems.append(f"no outcome ({why}); ringfence run exited {ran.status} and said: {said[-1][:300]}")
