# SPDX-License-Identifier: Apache-2.0
"""Outcomes in isolate's words. The texts are what isolate 2.6 (commit 6f21daf) printed with ``--meta=-`` for the programs named."""

from __future__ import annotations

import pytest

from supervisor.model.isolate_options import parse_isolate
from supervisor.model.isolate_result import isolate_result
from supervisor.model.outcome import Exit, Outcome, StartError, Usage
from supervisor.model.value import replace

MS = 1_000_000
USED = Usage(
    cpu_ns=MS + 200_000,
    wall_ns=MS + 900_000,
    rss_peak_main_bytes=1464 << 10,
    context_switches_voluntary=4,
    context_switches_involuntary=2,
)
STATS = "time:0.001\ntime-wall:0.001\nmax-rss:1464\ncsw-voluntary:4\ncsw-forced:2\n"


def told(outcome: Outcome, *argv: str, interrupted: int = 0) -> tuple[str, str, int]:
    made = isolate_result(parse_isolate([*argv, "--run", "--", "prog"]), outcome, interrupted)
    return made.meta, made.line, made.status


@pytest.mark.parametrize(
    ("verdict", "ended", "rest", "line", "status"),
    [
        ("ok", Exit(code=0), "exitcode:0\n", "OK (0.001 sec real, 0.001 sec wall)", 0),
        (
            "nonzero_exit",
            Exit(code=3),
            "exitcode:3\nstatus:RE\nmessage:Exited with error status 3\n",
            "Exited with error status 3",
            1,
        ),
        ("signaled", Exit(signal=11), "exitsig:11\nstatus:SG\nmessage:Caught fatal signal 11\n", "Caught fatal signal 11", 1),
        ("file_size_limit", Exit(signal=25), "exitsig:25\nstatus:SG\nmessage:Caught fatal signal 25\n", "Caught fatal signal 25", 1),
    ],
)
def test_a_program_that_ended(verdict: str, ended: Exit, rest: str, line: str, status: int) -> None:
    """/bin/true; exit 3; kill -11 $$; dd over --fsize."""
    assert told(Outcome(verdict=verdict, exit=ended, usage=USED)) == (STATS + rest, line, status)


@pytest.mark.parametrize(("verdict", "message"), [("cpu_limit", "Time limit exceeded"), ("wall_limit", "Time limit exceeded (wall clock)")])
def test_a_program_that_was_killed_for_its_time(verdict: str, message: str) -> None:
    """A spinner under --time, a sleeper under --wall-time: the status stands before the values."""
    outcome = Outcome(verdict=verdict, exit=Exit(signal=9), killed=True, usage=USED)
    assert told(outcome, "--time=0.5") == (f"status:TO\nmessage:{message}\nkilled:1\n{STATS}", message, 1)


def test_a_program_that_ended_within_its_extra_time() -> None:
    """It used 1.002 s of 0.5 s and 2 s extra: over, but not killed."""
    outcome = Outcome(verdict="ok", exit=Exit(code=0), usage=Usage(cpu_ns=1002 * MS, wall_ns=1005 * MS))
    meta = "time:1.002\ntime-wall:1.005\nstatus:TO\nmessage:Time limit exceeded\n"
    assert told(outcome, "-t.5", "-x2") == (meta, "Time limit exceeded", 1)
    within = Outcome(verdict="ok", exit=Exit(code=0), usage=Usage(cpu_ns=500 * MS + 999_999, wall_ns=MS))
    assert told(within, "-t.5")[2] == 0  # the resolution is a millisecond


def test_a_program_that_is_not_there() -> None:
    """``nonexist``: in a box that is exit status 127."""
    outcome = Outcome(verdict="start_failed", error=StartError(stage="exec", errno=2, message="nonexist: not found"))
    meta = "time:0.000\ntime-wall:0.000\nexitcode:127\nstatus:RE\nmessage:Exited with error status 127\n"
    assert told(outcome) == (meta, "Exited with error status 127", 1)


def test_memory_over_the_limit_of_the_group() -> None:
    """isolate(1): cg-mem and cg-oom-killed, only with --cg; the kernel's SIGKILL is the program's end."""
    usage = replace(USED, memory_peak_bytes=64 << 20)
    outcome = Outcome(verdict="memory_limit", exit=Exit(signal=9), killed=True, limits_hit=("memory_max",), usage=usage)
    rest = "cg-mem:65536\ncg-oom-killed:1\nexitsig:9\nstatus:SG\nmessage:Caught fatal signal 9\n"
    assert told(outcome, "--cg") == (STATS + rest, "Caught fatal signal 9", 1)
    assert "cg-" not in told(outcome)[0]


def test_what_is_not_the_programs_fault_is_xx() -> None:
    host = Outcome(verdict="host_oom", exit=Exit(signal=9), killed=True)
    broken = Outcome(verdict="start_failed", error=StartError(stage="rlimit", errno=1, message="step rlimit:\nno"))
    for outcome in (host, broken):
        meta, _, status = told(outcome)
        assert meta.startswith("status:XX\nmessage:") and meta.count("\n") == 2 and status == 2


def test_an_interrupt_is_told_before_everything() -> None:
    outcome = Outcome(verdict="cancelled", exit=Exit(signal=9), killed=True, usage=USED)
    assert told(outcome, interrupted=15) == (f"exitsig:15\nstatus:SG\nmessage:Interrupted\nkilled:1\n{STATS}", "Interrupted", 1)
