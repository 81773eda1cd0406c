# SPDX-License-Identifier: Apache-2.0
"""Job: the handle of one started command inside an asynchronous supervisor."""

from __future__ import annotations

import asyncio

from supervisor.kernel import native
from supervisor.model.spec import grace_ns
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.execution import Execution
    from supervisor.runtime.request import Text
    from supervisor.runtime.supervisor import Supervisor


class Job:
    """One run of one command; made by :meth:`Supervisor.start`, alive until its outcome is known."""

    __slots__ = ("_execution", "_supervisor", "_text", "_timer", "_timer_ns", "_waiters", "ended")

    def __init__(self, supervisor: Supervisor, execution: Execution, text: Text) -> None:
        self._supervisor = supervisor
        self._execution = execution
        self._text = text
        self._waiters: list[asyncio.Future[None]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self.ended = False

    @property
    def id(self) -> int:
        """Number of the job within its supervisor, never used again."""
        return self._execution.token

    @property
    def pid(self) -> int:
        """Process id of the main process, 0 when it never started."""
        return self._execution.pid

    @property
    def state(self) -> str:
        """One of ``starting running paused stopping terminated failed``."""
        return self._execution.state

    @property
    def outcome(self) -> Outcome | None:
        """The outcome once the job is over, else None."""
        return self._execution.outcome if self.ended else None

    async def wait(self) -> Outcome:
        """Wait for the end of the whole tree and return the outcome.

        Any number of tasks may wait. Cancelling a waiter leaves the job alone.
        """
        if not self.ended:
            await self._supervisor.changed(self, lambda: self.ended)
        outcome = self._execution.outcome
        assert outcome is not None
        return outcome

    async def pause(self) -> None:
        """Stop the whole tree (cgroup.freeze, or SIGSTOP without a freezer); its clock stands still.

        Pausing a paused or finished job changes nothing. Returns when every task has stopped.
        """
        self._execution.pause()
        self._rearm()

    async def resume(self) -> None:
        """Let a paused tree run on; without effect on one that is not paused."""
        self._execution.resume()
        self._rearm()

    async def send_signal(self, number: int) -> bool:
        """Send a signal to the main process; False when it has ended."""
        return self._execution.signal(number)

    async def kill(self) -> Outcome:
        """SIGKILL the whole tree and wait for the outcome (verdict ``cancelled``)."""
        return await self._stop(0)

    async def terminate(self, grace: Any = None) -> Outcome:
        """Ask the job to end, kill its tree after ``grace`` (the specification's by default), wait for the outcome.

        A paused job is resumed so that it can react. Cancelling the call does not take the request back.
        """
        return await self._stop(self._execution.spec.kill_grace_ns if grace is None else grace_ns(grace))

    async def _stop(self, wait_ns: int) -> Outcome:
        self._execution.stop(wait_ns)
        self._settle()
        return await self.wait()

    def _settle(self) -> None:
        """After anything happened: end the waiting, or set the timer for what is due next."""
        execution = self._execution
        if execution.outcome is not None and not execution.flushing:
            self._end()
        else:
            self._rearm()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        execution = self._execution
        if self._text.encoding is not None and execution.outcome is not None:
            decode = self._text.decode
            outcome = execution.outcome
            execution.outcome = replace(outcome, stdout=decode(outcome.stdout), stderr=decode(outcome.stderr))
        self._wake()
        asyncio.get_running_loop().call_soon(self._release)  # after those who wait have been told

    def _release(self) -> None:
        self._execution.release()
        self._supervisor.forget(self)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _rearm(self) -> None:
        due = self._execution.deadline_ns
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if self._timer_ns == due:
                return
            self._timer.cancel()
        self._timer_ns = due
        delay = max(0, due - native.now_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._execution.on_time(native.now_ns())
        self._settle()
