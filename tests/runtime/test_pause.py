# SPDX-License-Identifier: Apache-2.0
"""Pausing: the whole tree stands still, its clocks too, and stop, kill and limits behave meanwhile."""

from __future__ import annotations

import time

import pytest
from programs import answering, probe, python, sh
from waiting import PATIENCE, SLOW, Line, eventually

import supervisor

pytestmark = pytest.mark.usefixtures("holder")

#: Two processes that say "." on a descriptor as fast as they can.
TICKERS = "import os, sys\nos.fork()\nwhile True: os.write(int(sys.argv[1]), b'.\\n')"


def silent(line: Line, seconds: float) -> bool:
    """Nothing comes for that long, once what was under way is read."""
    try:
        while True:
            line.read(timeout=seconds)
    except AssertionError:
        return True


def cpu_ticks(pid: int) -> int:
    """Processor time of one process in clock ticks."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


async def test_a_paused_tree_stands_still_and_goes_on_where_it_was() -> None:
    """Neither the main process nor its child makes a step between pause and resume."""
    with Line() as line:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(TICKERS, line.end), pass_fds=[line.end])
            assert line.read() == "."
            await job.pause()
            assert job.state == "paused"
            assert silent(line, 0.2)
            await job.resume()
            assert job.state == "running"
            assert line.read() == "."
            outcome = await job.kill()
    assert outcome.verdict == "cancelled"
    assert outcome.usage.paused_ns >= 0.2e9


async def test_pausing_twice_and_resuming_what_runs_change_nothing() -> None:
    """Both are safe in every state, after the end too."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        await job.resume()
        assert job.state == "running"
        await job.pause()
        await job.pause()
        assert job.state == "paused"
        await job.resume()
        await job.resume()
        assert job.state == "running"
        await job.kill()
        await job.pause()
        await job.resume()
        assert job.state == "terminated"


async def test_wall_time_stands_still_while_paused() -> None:
    """0.4 s of time, 0.6 s of pause: the job is ended 0.4 s of running after its start."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"wall_time_max": 0.4})
        await job.pause()
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 0.6)
        assert job.state == "paused"
        await job.resume()
        outcome = await job.wait()
    assert outcome.verdict == "wall_limit", outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.paused_ns >= 0.6e9
    assert 0.4e9 <= outcome.usage.wall_ns - outcome.usage.paused_ns < (0.4 + 0.7 * SLOW) * 1e9


async def test_a_short_job_that_was_paused_long_broke_no_limit() -> None:
    """The final check leaves the pause out as well."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("read line; exit 0"), limits={"wall_time_max": 0.5 * SLOW}, stdin=supervisor.DEVNULL, preexec=())
        assert (await job.wait()).verdict in ("nonzero_exit", "ok")
        with Line() as go:
            job = await sup.start(python("import os; os.read(0, 1)"), limits={"wall_time_max": 1.5 * SLOW}, stdin=go._read)
            await job.pause()
            begun = time.monotonic()
            eventually(lambda: time.monotonic() > begun + 1.6 * SLOW)
            await job.resume()
            go.release()
            outcome = await job.wait()
    assert (outcome.verdict, outcome.limits_hit) == ("ok", ()), outcome


async def test_idle_time_stands_still_while_paused() -> None:
    """A paused job is not idle, and after the pause it has its whole time again."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"idle_time_max": 0.3}, capture_output=True)
        await job.pause()
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 0.5)
        await job.resume()
        outcome = await job.wait()
    assert outcome.verdict == "idle_limit", outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns - outcome.usage.paused_ns >= 0.29e9


async def test_a_paused_job_uses_no_processor_time() -> None:
    """A spinner's clock does not move."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(probe("spin", 1, 1, 60))
        eventually(lambda: cpu_ticks(job.pid) > 5)
        await job.pause()
        before = cpu_ticks(job.pid)
        begun = time.monotonic()
        eventually(lambda: time.monotonic() > begun + 0.3)
        assert cpu_ticks(job.pid) <= before + 1
        await job.kill()


async def test_terminating_a_paused_job_lets_it_react() -> None:
    """It is resumed for its polite signal and exits by itself within the grace."""
    code = answering(15, "sys.exit(7)")
    with Line() as line:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(code, line.end), pass_fds=[line.end])
            line.read()
            await job.pause()
            outcome = await job.terminate(grace=PATIENCE)
    assert (outcome.verdict, outcome.exit.code) == ("cancelled", 7), outcome


async def test_killing_a_paused_job_needs_no_resume() -> None:
    """The whole tree is gone at once."""
    with Line() as line:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(TICKERS, line.end), pass_fds=[line.end])
            line.read()
            await job.pause()
            outcome = await job.kill()
            line.wait_closed(timeout=1)
    assert (outcome.verdict, outcome.exit.signal) == ("cancelled", 9)


async def test_leaving_the_scope_with_a_paused_job_ends_it() -> None:
    """A deaf and paused one, with its grace."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("trap '' TERM; sleep 60 & wait; wait"), kill_grace=0.2)
        await job.pause()
    assert job.state == "terminated" and job.outcome is not None and job.outcome.verdict == "cancelled"


async def test_a_job_that_stops_itself_is_still_under_its_limits() -> None:
    """SIGSTOP on itself is no way out of wall time."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("import os\nos.kill(os.getpid(), 19)"), limits={"wall_time_max": 0.5 * SLOW})
        eventually(lambda: state_of(job.pid) == "T")
        outcome = await job.wait()
    assert (outcome.verdict, outcome.exit.signal) == ("wall_limit", 9), outcome


async def test_a_job_that_stops_itself_can_be_terminated() -> None:
    """The polite signal waits for a job that does not run; the force does not."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("import os\nos.kill(os.getpid(), 19)"))
        eventually(lambda: state_of(job.pid) == "T")
        outcome = await job.terminate(grace=0.3)
    assert outcome.verdict == "cancelled"


async def test_pausing_a_job_whose_main_process_has_just_ended_is_harmless() -> None:
    """Between the exit and its reaping."""
    from waiting import wait_dead

    async with supervisor.Supervisor() as sup:
        job = await sup.start(["true"])
        wait_dead(job.pid)
        await job.pause()
        outcome = await job.wait()
    assert outcome.verdict == "ok", outcome


async def test_a_limit_hit_while_paused_by_what_was_printed_before_ends_the_job() -> None:
    """Output that was already in the pipe counts; the frozen tree is killed all the same."""
    code = "import os, sys\nos.write(1, bytes(3000))\nos.write(int(sys.argv[1]), b'ready\\n')\nos.read(0, 1)"
    with Line() as line, Line() as never:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(
                python(code, line.end), pass_fds=[line.end], limits={"output_max": 1000}, stdin=never._read, capture_output=True
            )
            line.read()
            await job.pause()
            outcome = await job.wait()
    assert outcome.verdict == "output_limit", outcome
