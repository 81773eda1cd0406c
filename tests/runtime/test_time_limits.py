# SPDX-License-Identifier: Apache-2.0
"""Limits of time: processor, wall and idle time of the whole tree."""

from __future__ import annotations

import os

import pytest
from programs import probe, python, sh
from waiting import SLOW

import supervisor

pytestmark = pytest.mark.usefixtures("holder")
S = 10**9
MS = 10**6

SPINNERS = {
    "one process": probe("spin", 1, 1, 20),
    "four processes": probe("spin", 4, 1, 20),
    "four threads": probe("spin", 1, 4, 20),
    "children of children": sh("(while :; do :; done) & (while :; do :; done) & wait"),
    "many short children": sh("while :; do /bin/true; done"),
    "one that ignores every signal": python(
        "import signal\nfor n in range(1, 32):\n  if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
    ),
    "a daemon of its own": sh("setsid sh -c 'while :; do :; done' & wait"),
}


@pytest.mark.parametrize("shape", SPINNERS)
def test_processor_time_of_the_whole_tree_ends_the_job_at_cpu_time_max(shape: str) -> None:
    """However the tree is made up: the verdict, and no more than a tenth of a second over."""
    outcome = supervisor.run(SPINNERS[shape], limits={"cpu_time_max": 0.4, "wall_time_max": 20})
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("cpu_limit", ("cpu_time_max",), True), outcome
    assert outcome.usage.cpu_ns is not None and 0.38 * S <= outcome.usage.cpu_ns <= (0.4 + 0.4 * SLOW) * S


async def test_a_job_that_leaves_the_processor_of_its_supervisor_is_looked_at_in_time() -> None:
    """Affinity is inherited, but a job changes its own: on all processors it can spend a second in a fraction of one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(["sleep", "60"], limits={"cpu_time_max": 1})
            started_ns, due_ns = job._execution._end.started_ns, job._execution.deadline_ns
            assert due_ns is not None and due_ns - started_ns <= S // os.sysconf("SC_NPROCESSORS_ONLN")
            await job.kill()
    finally:
        os.sched_setaffinity(0, before)


def test_sleeping_uses_no_processor_time() -> None:
    """Half a second of sleep inside 0.3 s of processor time."""
    assert supervisor.run(["sleep", "0.5"], limits={"cpu_time_max": 0.3}).verdict == "ok"


@pytest.mark.parametrize(
    "program",
    [["sleep", "60"], sh("trap '' TERM INT HUP; sleep 60 & wait; wait"), probe("spin", 1, 1, 60)],
    ids=["sleeps", "deaf", "spins"],
)
def test_wall_time_max_ends_the_job_at_its_time(program: list[str]) -> None:
    """Not before, and soon after."""
    outcome = supervisor.run(program, limits={"wall_time_max": 0.3})
    assert (outcome.verdict, outcome.limits_hit, outcome.killed, outcome.exit.signal) == ("wall_limit", ("wall_time_max",), True, 9), (
        outcome
    )
    assert outcome.usage.wall_ns is not None and 0.3 * S <= outcome.usage.wall_ns < (0.3 + 0.7 * SLOW) * S


def test_timeout_is_the_wall_limit_by_subprocess_name() -> None:
    """``timeout=`` gives the same verdict."""
    assert supervisor.run(["sleep", "60"], timeout=0.1).verdict == "wall_limit"


def test_a_job_with_a_grace_gets_the_polite_signal_first_and_the_verdict_stays() -> None:
    """It cleans up on SIGTERM; still its time was over."""
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('bye', flush=True), sys.exit(0)))\ntime.sleep(60)"
    outcome = supervisor.run(python(code), limits={"wall_time_max": 0.5 * SLOW}, kill_grace=5, capture_output=True)
    assert (outcome.verdict, outcome.exit.code, outcome.stdout) == ("wall_limit", 0, b"bye\n"), outcome


def test_a_job_that_ignores_the_polite_signal_is_killed_when_the_grace_is_over() -> None:
    """A little time, in which it has surely begun to ignore the signal, and 0.3 s of grace."""
    time_ns = int(0.2 * SLOW * S)
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)"
    outcome = supervisor.run(python(code), limits={"wall_time_max": time_ns / S}, kill_grace=0.3)
    assert (outcome.verdict, outcome.exit.signal) == ("wall_limit", 9)
    assert outcome.usage.wall_ns is not None and time_ns + 0.3 * S <= outcome.usage.wall_ns < time_ns + (0.3 + 0.7 * SLOW) * S


def test_a_silent_sleeping_job_is_idle() -> None:
    """Neither output nor processor time for that long."""
    outcome = supervisor.run(["sleep", "60"], limits={"idle_time_max": 0.4, "wall_time_max": 20}, capture_output=True)
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("idle_limit", ("idle_time_max",), True)
    assert outcome.usage.wall_ns is not None and 0.4 * S <= outcome.usage.wall_ns < (0.4 + 0.7 * SLOW) * S


def test_a_spinning_job_is_not_idle() -> None:
    """More than twice the idle limit of work without a word."""
    outcome = supervisor.run(probe("spin", 1, 1, 1.8), limits={"idle_time_max": 0.8, "wall_time_max": 20}, capture_output=True)
    assert outcome.verdict == "ok", outcome


def test_a_printing_job_is_not_idle() -> None:
    """A byte every tenth of a second, and a sleep in between."""
    outcome = supervisor.run(
        sh("for n in 1 2 3 4 5 6 7 8 9 10; do echo; sleep 0.1; done"), limits={"idle_time_max": 0.5}, capture_output=True
    )
    assert outcome.verdict == "ok", outcome


def test_the_first_limit_reached_is_the_verdict() -> None:
    """Wall time before idle time before processor time."""
    limits = {"wall_time_max": 0.2, "idle_time_max": 5, "cpu_time_max": 5}
    assert supervisor.run(["sleep", "60"], limits=limits).limits_hit == ("wall_time_max",)
