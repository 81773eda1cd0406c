# SPDX-License-Identifier: Apache-2.0
"""The stage of hostile programs: where they are run, with what, and whether what came of one is what the table says."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import facts
import plays
from sandboxes import PREFIX, REAL_PYTHON
from scenario import Scenario
from surroundings import Surroundings
from waiting import SLOW

import supervisor
from supervisor.model.syscalls import syscall_numbers

PROGRAMS = Path(__file__).parent / "programs"
WALL_SECONDS = 60
#: What a call may take beyond its wall limit: the start, the kill, the evidence.
PATIENCE_SECONDS = 10 * SLOW
NUMBERS = syscall_numbers(os.uname().machine)


class Stage:
    """Owns a scratch folder with the programs and a canary: files that no job may change. :meth:`close` removes it.

    ``user``: whose jobs they are; ours unless given, which takes root.
    """

    def __init__(self, user: int | None = None) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hostile-"))
        folder.chmod(0o755)  # another user's jobs are shown what is below
        self.folder = folder
        self.user = user
        self.programs = shutil.copytree(PROGRAMS, folder / "programs", ignore=shutil.ignore_patterns("__pycache__"))
        self.built = folder / "built"
        self.canary = folder / "canary"
        self.built.mkdir()
        self.canary.mkdir()
        (self.canary / "file").write_text("untouched\n")
        (self.canary / "link").symlink_to("file")
        self._build()
        self.surroundings = Surroundings(self.canary)

    def _build(self) -> None:
        compiler = os.environ.get("CC", "cc")
        for source in sorted(PROGRAMS.glob("*.c")):
            flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread"]
            subprocess.run([compiler, *flags, str(source), "-o", str(self.built / source.stem)], check=True)

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def work(self, place: str = "") -> Path:
        """A new folder that a job may fill."""
        made = Path(tempfile.mkdtemp(prefix="work-", dir=place or self.folder))
        if self.user is not None:
            os.chown(made, self.user, self.user)
        return made

    def sandbox(self, level: str, **given: Any) -> supervisor.Sandbox:
        """A sandbox that shows the programs, the interpreter and, read-only, the canary."""
        if level == "none":
            return supervisor.Sandbox()
        shown = [] if PREFIX.startswith("/usr") else [PREFIX]
        shown += [str(self.programs), str(self.built), str(self.canary)]
        return supervisor.Sandbox(level=level, **{**given, "bind": [*shown, *given.get("bind", ())]})

    def command(self, program: str, *args: object) -> list[str]:
        """The command that runs a file of programs/."""
        words = [str(arg) for arg in args]
        kind = program.rpartition(".")[2]
        if kind == "c":
            return [str(self.built / program[:-2]), *words]
        if kind == "sh":
            return ["/bin/sh", str(self.programs / program), *words]
        return [REAL_PYTHON, "-E", "-s", "-S", "-B", str(self.programs / program), *words]

    async def run(self, sup: supervisor.Supervisor, scenario: Scenario, level: str) -> supervisor.Outcome:
        """Run one scenario and fail unless what came of it, and how long it took, is what the table says."""
        begun = time.monotonic()
        if scenario.play:
            outcome: supervisor.Outcome = await getattr(plays, scenario.play)(self, sup, scenario, level)
        else:
            outcome = await self._run_program(sup, scenario, level)
        took = time.monotonic() - begun
        wall = supervisor.Limits(wall_time_max=scenario.limits.get("wall_time_max", WALL_SECONDS)).wall_time_max
        if not scenario.alone and wall is not None:
            assert took < wall / 1e9 + PATIENCE_SECONDS, (took, outcome)
        judge(scenario, outcome)
        return outcome

    async def _run_program(self, sup: supervisor.Supervisor, scenario: Scenario, level: str) -> supervisor.Outcome:
        places = {"WORK": "", "CANARY": str(self.canary), "PID": str(os.getpid()), "DISK": ""}
        wanted = repr((scenario.args, scenario.sandbox))
        if "{WORK}" in wanted:
            places["WORK"] = str(self.work())
        if "{DISK}" in wanted:
            places["DISK"] = str(self.work(facts.test_disk()))
        args = [_numbered(arg) if scenario.program == "calls.py" else arg.format(**places) for arg in scenario.args]
        given = {**scenario.sandbox, "bind": [bind.format(**places) for bind in scenario.sandbox.get("bind", ())]}
        try:
            return await self.job(sup, self.command(scenario.program, *args), scenario, level, **given)
        finally:
            for name in ("WORK", "DISK"):
                if places[name]:
                    shutil.rmtree(places[name])

    async def job(
        self, sup: supervisor.Supervisor, command: list[str], scenario: Scenario, level: str, **sandbox: Any
    ) -> supervisor.Outcome:
        """Run a command under the scenario's limits; its output is collected."""
        limits = {"wall_time_max": WALL_SECONDS, **scenario.limits}
        who: dict[str, Any] = {} if self.user is None or level == "none" else {"user": self.user, "group": self.user, "extra_groups": ()}
        shown = self.sandbox(level, **sandbox)
        return await sup.run(command, limits=limits, sandbox=shown, capture_output=True, stdin=supervisor.DEVNULL, **who)


def _numbered(call: str) -> str:
    """``NAME:ARGUMENT...`` with the number that the name has on this machine; -1, which no kernel knows, where it has none."""
    name, *arguments = call.split(":")
    return ":".join([name, str(NUMBERS.get(name, -1)), *arguments])


def judge(scenario: Scenario, outcome: supervisor.Outcome) -> None:
    """Fail unless the outcome is what the table says."""
    told = (scenario.name, outcome.summary(), outcome.stdout, outcome.stderr, outcome)
    assert outcome.verdict in scenario.verdicts, told
    assert set(scenario.hits) <= set(outcome.limits_hit), told
    said = outcome.stdout or b""
    assert b"escaped" not in said, told
    assert said.count(b"refused ") >= scenario.refuses, told
    assert outcome.enforcement.get("tree"), told
    if scenario.proof is not None:
        scenario.proof(outcome)


def runs(scenarios: tuple[Scenario, ...]) -> list[tuple[Scenario, str]]:
    """Every scenario with each level it is run at."""
    return [(scenario, level) for scenario in scenarios for level in scenario.levels]


def needs(scenario: Scenario, level: str) -> tuple[str, ...]:
    """What the host must offer for it; see tests/facts.py."""
    return ("cc", *scenario.requires, *(() if level == "none" else ("mount",)))
