# SPDX-License-Identifier: Apache-2.0
"""Any interleaving of calls on any jobs, against a small model and the real kernel.

The model knows what a call must do in each state; the machine also looks at the kernel itself (is the
process frozen, alive, gone?) and, at the end of every run, that all events of every job tell one legal life.
"""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from waiting import SLOW, is_alive

import supervisor
from supervisor import ClosedError, JobState, StateChanged, Terminated

LEGAL = {
    "starting": {"running", "failed"},
    "running": {"paused", "stopping", "terminated", "failed"},
    "paused": {"running", "stopping", "terminated", "failed"},
    "stopping": {"terminated", "failed"},
}
#: How a job can end that was on its way to its end already.
OWN_ENDS = {"cancelled", "ok", "signaled", "wall_limit", "start_failed"}
IGNORES_TERM = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"]
#: command -> what its jobs do by themselves
COMMANDS: list[tuple[list[str], str]] = [
    (["sleep", "60"], "stays"),
    (["true"], "ends"),
    (["sh", "-c", "sleep 60 & sleep 60 & wait"], "stays"),
    (IGNORES_TERM, "ignores TERM"),
    (["/nonexistent/program"], "fails"),
]


class Life:
    """What the model knows of one job."""

    def __init__(self, job: supervisor.Job, habit: str, reader: Any) -> None:
        self.job, self.habit, self.reader = job, habit, reader
        self.paused = False
        self.over = habit in ("ends", "fails")
        self.spared = False  # sent a signal that it ignores, unless it came before the job said so


class Jobs(RuleBasedStateMachine):
    """The machine: one supervisor, up to six jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sup = supervisor.Supervisor()
        self.lives: list[Life] = []

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize()
    def open(self) -> None:
        self.do(self.sup.__aenter__())

    @rule(which=st.sampled_from(range(len(COMMANDS))), collect=st.booleans())
    @precondition(lambda self: len(self.lives) < 6)
    def start(self, which: int, collect: bool) -> None:
        command, habit = COMMANDS[which]
        where = {"capture_output": True} if collect else {"stdout": supervisor.DEVNULL}
        job = self.do(self.sup.start(command, stdin=supervisor.DEVNULL, **where))
        assert (job.state == JobState.FAILED) == (habit == "fails")
        self.lives.append(Life(job, habit, job.events()))

    def pick(self, number: int) -> Life | None:
        return self.lives[number % len(self.lives)] if self.lives else None

    @rule(number=st.integers(0, 5))
    def pause(self, number: int) -> None:
        if life := self.pick(number):
            self.do(life.job.pause())
            life.paused = life.job.state == JobState.PAUSED
            assert life.paused or life.over or life.spared

    @rule(number=st.integers(0, 5))
    def resume(self, number: int) -> None:
        if life := self.pick(number):
            self.do(life.job.resume())
            life.paused = False

    @rule(number=st.integers(0, 5), grace=st.sampled_from([0.0, 0.05, None]))
    def terminate(self, number: int, grace: float | None) -> None:
        life = self.pick(number)
        if life is None or (grace is None and life.habit == "ignores TERM"):
            return  # two seconds of grace each would tell nothing new
        outcome = self.do(life.job.terminate(grace))
        assert outcome.verdict in (OWN_ENDS if life.over or life.spared else {"cancelled"})
        life.over, life.paused = True, False

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        if life := self.pick(number):
            outcome = self.do(life.job.kill())
            assert outcome.verdict == "cancelled" or life.over or life.spared
            life.over, life.paused = True, False

    @rule(number=st.integers(0, 5), signal=st.sampled_from([0, 10, 15]))
    def send_signal(self, number: int, signal: int) -> None:
        life = self.pick(number)
        if life is None:
            return
        sent = self.do(life.job.send_signal(signal))
        assert sent or life.over or life.spared
        if signal and not life.paused and life.habit == "stays":
            self.do(life.job.wait())
        life.spared = life.spared or (signal == 15 and life.habit == "ignores TERM")
        life.over = life.over or (signal != 0 and (life.habit != "ignores TERM" or signal == 10))

    @rule(number=st.integers(0, 5), seconds=st.sampled_from([0.01, 30, "infinity"]))
    def set_limits(self, number: int, seconds: float | str) -> None:
        life = self.pick(number)
        if life is None:
            return
        try:
            self.do(life.job.set_limits(wall_time_max=seconds, limit_nofile=200))
        except ClosedError:
            assert life.over or life.spared
            return
        if seconds == 0.01 and not life.paused:
            assert self.do(life.job.wait()).verdict in ("wall_limit", "ok", "signaled")
        life.over = life.over or seconds == 0.01

    @rule(number=st.integers(0, 5))
    def wait_for_the_end(self, number: int) -> None:
        life = self.pick(number)
        if life is not None and life.over and not life.paused:
            outcome = self.do(life.job.wait())
            assert outcome is life.job.outcome

    @rule(number=st.integers(0, 5))
    def a_waiter_is_cancelled(self, number: int) -> None:
        if life := self.pick(number):

            async def cancelled() -> None:
                waiter = asyncio.ensure_future(life.job.wait())
                await asyncio.sleep(0)
                waiter.cancel()
                await asyncio.wait([waiter])

            self.do(cancelled())

    @invariant()
    def the_kernel_agrees(self) -> None:
        for life in self.lives:
            if life.job.outcome is not None:
                assert life.job.state in (JobState.TERMINATED, JobState.FAILED)
                assert not life.job.pid or not is_alive(life.job.pid) or not os.path.exists(f"/proc/{life.job.pid}")
            elif life.job.state == JobState.PAUSED and life.job.pid:
                assert is_alive(life.job.pid) or life.over or life.spared

    def teardown(self) -> None:
        try:
            self.do(self.sup.aclose(at_once=True))
            assert self.sup.jobs == ()
            for life in self.lives:
                self.do(self.one_legal_life(life))
        finally:
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    async def one_legal_life(self, life: Life) -> None:
        events = [event async for event in life.reader]
        assert isinstance(events[-1], Terminated) and events[-1].outcome == life.job.outcome
        states = [event for event in events if isinstance(event, StateChanged) and not event.replayed]
        for one, following in pairwise(states):
            assert one.state == following.previous
        for event in states:
            assert event.state in LEGAL[event.previous], event


@pytest.mark.timeout(300)
def test_every_interleaving_is_legal_or_refused_and_leaves_nothing() -> None:
    limits = settings(max_examples=int(300 / SLOW), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Jobs, settings=limits)
