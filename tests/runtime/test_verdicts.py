# SPDX-License-Identifier: Apache-2.0
"""Verdicts come from evidence: what a job does to itself is never mistaken for a limit, and the other way round."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from typing import Any

import pytest
from programs import answering, probe, python, sh
from waiting import SLOW, Line, eventually, wait_dead

import supervisor
from supervisor.kernel.cgroup import Cgroup

pytestmark = pytest.mark.usefixtures("holder")
#: Limits far away, so that a wrong verdict would have something to point at.
FAR: dict[str, Any] = {
    "cpu_time_max": 30,
    "wall_time_max": 30,
    "idle_time_max": 30,
    "output_max": "1M",
    "limit_cpu": 30,
    "limit_fsize": "1G",
    "limit_core": 0,
}


@pytest.mark.parametrize("code", [0, 1, 2, 124, 125, 126, 127, 128, 130, 137, 143, 152, 153, 255])
def test_an_exit_code_is_only_an_exit_code(code: int) -> None:
    """137, 143, 124 and the like say nothing about signals or limits."""
    outcome = supervisor.run(sh("exit $1", code), limits=FAR)
    assert (outcome.verdict, outcome.exit.code, outcome.exit.signal) == ("nonzero_exit" if code else "ok", code, None)
    assert (outcome.killed, outcome.limits_hit, outcome.error) == (False, (), None)
    assert outcome.exit_status() == code


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 14, 15, 24, 31, 34, 64])
def test_a_signal_of_its_own_is_only_a_signal(number: int) -> None:
    """SIGKILL on itself is no OOM kill, SIGXCPU no processor limit."""
    code = f"import os, signal\nif {number} not in (9, 19): signal.signal({number}, signal.SIG_DFL)\nos.kill(os.getpid(), {number})"
    outcome = supervisor.run(python(code), limits=FAR)
    assert (outcome.verdict, outcome.exit.signal, outcome.exit.code) == ("signaled", number, None)
    assert (outcome.killed, outcome.limits_hit) == (False, ())
    assert (outcome.exit_status(), outcome.returncode) == (128 + number, -number)


def test_sigxfsz_on_itself_without_a_limit_is_only_a_signal() -> None:
    """There is no limit on file size it could have hit."""
    code = "import os, signal\nsignal.signal(25, signal.SIG_DFL)\nos.kill(os.getpid(), 25)"
    assert supervisor.run(python(code), limits={"limit_core": 0}).verdict == "signaled"


def test_a_kill_from_outside_is_a_signal_and_no_limit() -> None:
    """Somebody else's SIGKILL."""
    outcome = supervisor.run(sh("kill -9 $$"), limits=FAR)
    assert (outcome.verdict, outcome.exit.signal, outcome.killed) == ("signaled", 9, False)


def wait_ended(pid: int, holder: str) -> None:
    """Until the job has ended and whoever holds its tree has said so."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    wait_dead(parent if holder == "helper" else pid)


async def test_a_job_that_ended_between_limit_and_check_broke_it_and_was_not_killed(holder: str) -> None:
    """The supervisor looks only after the job is gone: the usage above the limit decides, ``killed`` is false."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "0.3"], limits={"wall_time_max": 0.1}, kill_grace=5)  # with a grace only the event loop acts
        wait_ended(job.pid, holder)  # the event loop stands still: nobody looks at the clock meanwhile
        outcome = await job.wait()
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("wall_limit", ("wall_time_max",), False), outcome
    assert outcome.exit.code == 0


async def test_processor_time_spent_between_two_looks_counts(holder: str) -> None:
    """The same for processor time, the whole tree's."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(probe("spin", 2, 1, 0.2), limits={"cpu_time_max": 0.2})
        wait_ended(job.pid, holder)
        outcome = await job.wait()
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("cpu_limit", ("cpu_time_max",), False), outcome


async def test_a_late_look_at_a_job_that_ended_in_time_changes_nothing(holder: str) -> None:
    """The event loop stands still beyond the limit, but the job had ended before it."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "0.1"], limits={"wall_time_max": 0.4})
        deadline = time.monotonic() + 0.6
        wait_ended(job.pid, holder)
        eventually(lambda: time.monotonic() > deadline)
        outcome = await job.wait()
    assert (outcome.verdict, outcome.killed, outcome.limits_hit) == ("ok", False, ()), outcome


async def test_a_wall_limit_holds_while_the_event_loop_stands_still(holder: str) -> None:
    """The job is dead soon after its deadline although nothing of Python ran meanwhile."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"wall_time_max": 0.2})
        wait_ended(job.pid, holder)
        outcome = await job.wait()
    assert (outcome.verdict, outcome.killed, outcome.limits_hit) == ("wall_limit", True, ("wall_time_max",)), outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns < 10e9 * SLOW


async def test_an_end_is_dated_by_whoever_saw_it_first(no_cgroup: None) -> None:
    """The event loop looks a second too late, and the init helper's own time is the outcome's."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "0.1"], limits={"wall_time_max": 60})
        deadline = time.monotonic() + 1
        wait_ended(job.pid, "helper")
        eventually(lambda: time.monotonic() > deadline)
        outcome = await job.wait()
    assert outcome.verdict == "ok" and outcome.usage.wall_ns is not None and outcome.usage.wall_ns < 1e9


async def test_a_pause_moves_the_deadline_that_native_code_watches() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"wall_time_max": 0.3})
        await job.pause()
        deadline = time.monotonic() + 0.5
        eventually(lambda: time.monotonic() > deadline)  # the loop stands still, and so does the clock of the job
        await job.resume()
        assert job.state == "running"
        outcome = await job.wait()
    assert outcome.verdict == "wall_limit" and outcome.usage.paused_ns >= 0.5e9


async def test_the_first_cause_is_the_verdict_and_the_later_ones_are_listed() -> None:
    """Cancelled with a grace in which it then prints too much."""
    code = answering(15, "os.write(1, bytes(5000))")
    with Line() as ready:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(code, ready.end), limits={"output_max": 1000}, pass_fds=[ready.end], capture_output=True)
            assert ready.read() == "ready"
            outcome = await job.terminate(grace=10)
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("cancelled", ("output_max",), True), outcome


async def test_a_stopped_job_is_cancelled_even_when_it_exits_0() -> None:
    """The request came first."""
    code = answering(15, "sys.exit(0)")
    with Line() as ready:
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(code, ready.end), pass_fds=[ready.end])
            ready.read()
            outcome = await job.terminate(grace=10)
    assert (outcome.verdict, outcome.exit.code, outcome.killed) == ("cancelled", 0, True)


@pytest.mark.parametrize("holder", ["cgroup"], indirect=True)
@pytest.mark.parametrize("asked", [{}, {"grace": 10, "signal": 15}], ids=["plainly", "by a signal"])
async def test_a_job_that_is_stopped_when_only_what_it_left_still_runs_was_not_killed(
    asked: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is asked for: no signal reaches a main process that has exited."""
    usual, can_kill = Cgroup.kill, False

    def kill(cgroup: Cgroup) -> None:
        if not can_kill:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        usual(cgroup)

    monkeypatch.setattr(Cgroup, "kill", kill)
    async with supervisor.Supervisor() as sup, asyncio.timeout(20 * SLOW):
        job = await sup.start(sh("sleep 600 >/dev/null 2>&1 & exit 0"))
        while job.state != "stopping":
            await asyncio.sleep(0)
        stopped = asyncio.create_task(job.terminate(**asked))
        await asyncio.sleep(0)
        can_kill = True
        outcome = await stopped
    assert (outcome.verdict, outcome.exit.code, outcome.killed) == ("cancelled", 0, False)


def test_enforcement_names_the_mechanism_of_every_limit_and_of_the_tree(holder: str) -> None:
    """Nothing is enforced by nobody."""
    outcome = supervisor.run(["true"], limits=FAR)
    assert outcome.enforcement.keys() == {"tree", *FAR}
    assert all(outcome.enforcement.values())
    assert ("init helper" in outcome.enforcement["tree"]) == (holder == "helper")


@pytest.mark.requires("core")
def test_the_core_flag_is_that_of_the_wait_status(tmp_path: Any) -> None:
    """SIGQUIT with a core allowed, and without."""
    for limit, core in (("0", False), ("1G", True)):
        code = "import os; os.kill(os.getpid(), 3)"
        outcome = supervisor.run(python(code), limits={"limit_core": limit}, cwd=tmp_path)
        assert (outcome.exit.signal, outcome.exit.core) == (signal.SIGQUIT, core)


def test_json_of_an_outcome_has_the_contracts_shape() -> None:
    """Version 1, every key there, unknown numbers null and without a source."""
    made = supervisor.run(["true"]).to_dict()
    keys = "version verdict exit killed limits_hit usage sources enforcement warnings error denied_syscalls changes"
    assert list(made) == keys.split()
    assert made["version"] == 1 and made["exit"] == {"code": 0, "signal": None, "core": False}
    known = {name for name, number in made["usage"].items() if number not in (None, {}) and name != "paused_ns"}
    assert known == set(made["sources"]), (known ^ set(made["sources"]), os.environ.get("RINGFENCE_CGROUP"))


def test_an_exit_that_the_kernel_kept_from_us_is_not_made_up(holder: str) -> None:
    """SIGCHLD ignored by the caller: nobody can wait for a child then. The init helper waits for the command itself."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        outcome = supervisor.run(sh("exit 3"))
    finally:
        signal.signal(signal.SIGCHLD, before)
    stage = None if outcome.error is None else outcome.error.stage
    expected = ("sandbox_error", None, "wait") if holder == "cgroup" else ("nonzero_exit", 3, None)
    assert (outcome.verdict, outcome.exit.code, stage) == expected, outcome
