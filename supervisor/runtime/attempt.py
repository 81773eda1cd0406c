# SPDX-License-Identifier: Apache-2.0
"""Attempt: one run of a service, from its preparation to the end of its tree."""

from __future__ import annotations

import asyncio

from supervisor.control.restart import result_of
from supervisor.errors import ClosedError, SupervisorError
from supervisor.model.check import FdCheck, LogCheck
from supervisor.model.service_state import Ending, ServiceResult, ServiceState
from supervisor.model.spec import DEVNULL
from supervisor.model.units import INFINITY
from supervisor.model.value import replace
from supervisor.runtime.checks import ask
from supervisor.runtime.health_watch import watch_health
from supervisor.runtime.side_command import run_within
from supervisor.runtime.signs import Signs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any, Final, Protocol

    from supervisor.model.outcome import Outcome
    from supervisor.model.service import ServiceSpec
    from supervisor.model.spec import JobSpec, Text
    from supervisor.runtime.job import Job
    from supervisor.runtime.supervisor import Supervisor

    Launch = Callable[[JobSpec], Awaitable[Job]]

    class Observer(Protocol):
        """Who wants to know how the run goes, while it goes."""

        def launched(self, job: Job) -> None: ...
        def became(self, state: str, cause: str = "") -> None: ...
        def said(self, status: str) -> None: ...
        def noted(self, message: str) -> None: ...
        def felt(self, healthy: bool) -> None: ...


#: Between two questions whether a service is ready: the first, and the longest, in seconds.
ASK_FIRST_S: Final = 0.02
ASK_LONGEST_S: Final = 1.0
ASK_TIMEOUT_S: Final = 5.0


class Attempt:
    """Owns one run of a service: its job, what it says of itself, and the tasks and timers around it.

    Make one and await :meth:`run` once; :meth:`end` ends it from outside.
    """

    def __init__(self, supervisor: Supervisor, spec: ServiceSpec, job_spec: JobSpec, launch: Launch, observer: Observer) -> None:
        self._supervisor = supervisor
        self._spec = spec
        self._job_spec = job_spec
        self._launch = launch
        self._observer = observer
        self._signs: Signs | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._cause = ""  # why we end it
        self._exited = False
        self._ready = False
        self._at_once = False
        self.job: Job | None = None

    # ---- from outside ----

    def end(self, cause: str, *, at_once: bool = False) -> None:
        """End the run for this reason (the first one counts); ``at_once`` without any grace, also when it is ending already."""
        self._cause = self._cause or cause
        if at_once and not self._at_once:
            self._at_once = True
            if self.job is not None and not self.job.ended:
                self._spawn(self.job.kill())
        self._wake()

    async def run(self) -> Ending:
        """Everything from ``exec_start_pre`` to ``exec_stop_post``. Raises :class:`ClosedError` when the supervisor is closed.

        Cancelled, it kills the job and waits for its end; nothing is left open in any case.
        """
        try:
            ending = await self._before() or await self._main()
        finally:
            await self._close()
        for argv in self._spec.exec_stop_post:
            await self._command(argv, self._spec.timeout_stop_sec, interruptible=False)
        return ending

    # ---- the run ----

    async def _before(self) -> Ending | None:
        for argv in self._spec.exec_start_pre:
            outcome = await self._command(argv, self._spec.timeout_start_sec)
            if self._cause:
                return Ending(result=ServiceResult.SUCCESS if self._cause == "stop" else self._cause, outcome=outcome)
            if outcome is None:
                return Ending(result=ServiceResult.TIMEOUT, message="exec_start_pre takes longer than timeout_start_sec")
            result = result_of(self._spec, outcome)
            if result != ServiceResult.SUCCESS:
                return Ending(result=result, outcome=outcome, message=f"exec_start_pre: {outcome.summary()}")
        return None

    async def _main(self) -> Ending:
        try:
            job = await self._start_job()
        except ClosedError:
            raise
        except (SupervisorError, OSError) as error:  # ConfigError and UnsupportedError have no errno: they will not pass
            return Ending(result=ServiceResult.RESOURCES, message=str(error), error_number=getattr(error, "errno", 0) or 0)
        over = asyncio.get_running_loop().create_task(job.wait())
        try:
            over.add_done_callback(self._on_exit)
            if job.state == "failed":
                return self._ending(await over)
            self._observer.launched(job)
            await self._until_ready(job)
            if self._ready and not self._cause and self._spec.type != "oneshot":
                self._up()
                await self._until(lambda: bool(self._cause) or self._exited)
            if not self._exited:
                await self._stop(job)
            ending = self._ending(await over)
        except BaseException:
            over.cancel()
            raise
        if self._spec.remain_after_exit and ending.result == ServiceResult.SUCCESS and not self._cause:
            self._observer.became(ServiceState.ACTIVE, "exited")
            await self._until(lambda: bool(self._cause))
        return ending

    def _ending(self, outcome: Outcome) -> Ending:
        result = result_of(self._spec, outcome, self._cause)
        if self._cause == "stop" and self._at_once:
            result = ServiceResult.SUCCESS  # it got what was asked for
        if not self._ready and not self._cause and result == ServiceResult.SUCCESS and self._spec.type != "oneshot":
            return Ending(result=ServiceResult.PROTOCOL, outcome=outcome, message="it ended before it was ready")
        return Ending(result=result, outcome=outcome, message=self._cause or outcome.summary())

    async def _start_job(self) -> Job:
        signs = self._signs = Signs(self._spec, self._job_spec, self)
        try:
            job = self.job = await self._launch(signs.job_spec)
        finally:
            signs.release()
        if self._at_once:
            self._spawn(job.kill())
        signs.listen(job)
        return job

    async def _until_ready(self, job: Job) -> None:
        spec, ready = self._spec, self._spec.ready
        self._ready = spec.type in ("simple", "exec") and ready is None
        if self._ready:
            return
        self._arm(spec.timeout_start_sec)
        if ready is not None and not isinstance(ready, (FdCheck, LogCheck)):
            self._spawn(self._ask_until_ready())
        await self._until(lambda: self._ready or bool(self._cause) or self._exited)
        self._disarm()

    async def _ask_until_ready(self) -> None:
        check: Any = self._spec.ready
        pause = ASK_FIRST_S
        while not await ask(self._supervisor, check, self._job_spec, ASK_TIMEOUT_S):
            await asyncio.sleep(pause)
            pause = min(pause * 2, ASK_LONGEST_S)
        self.became_ready()

    def _up(self) -> None:
        self._observer.became(ServiceState.ACTIVE)
        assert self._signs is not None and self.job is not None
        self._signs.start_watchdog()
        if self._spec.health is not None:
            self._spawn(watch_health(self._supervisor, self._spec.health, self._job_spec, self.job, self._felt))

    def _felt(self, healthy: bool) -> None:
        self._observer.felt(healthy)
        if not healthy and self._spec.health is not None and self._spec.health.on_failure == "restart":
            self.end("health")

    async def _stop(self, job: Job) -> None:
        """End the job for ``_cause``, as the specification says; returns when its tree is empty."""
        self._observer.became(ServiceState.DEACTIVATING, self._cause)
        spec = self._spec
        if self._at_once:
            await job.kill()
        elif self._cause == "watchdog":
            await job.terminate(spec.timeout_stop_sec, signal=spec.watchdog_signal)
        else:
            if spec.exec_stop is not None and self._cause == "stop":
                await self._command(spec.exec_stop, spec.timeout_stop_sec, interruptible=False)
            await job.terminate(spec.timeout_stop_sec)

    async def reload(self) -> bool:
        """Run ``exec_reload``, or send ``reload_signal``; whether that succeeded."""
        if self._spec.exec_reload is not None:
            outcome = await self._command(self._spec.exec_reload, self._spec.timeout_start_sec, interruptible=False)
            return outcome is not None and outcome.ok
        return self.job is not None and await self.job.send_signal(self._spec.reload_signal)

    async def _command(self, argv: Sequence[Text], seconds: float, *, interruptible: bool = True) -> Outcome | None:
        """Run one of the other commands as the service itself runs; None when it took too long, or was interrupted."""
        main = {} if self.job is None else {"MAINPID": str(self.job.pid)}  # systemd.exec(5)
        spec = replace(self._job_spec, argv=tuple(argv), env={**(self._job_spec.env or {}), **main}, stdin=DEVNULL, input=None)
        return await run_within(self._supervisor, spec, seconds, self._done_or_ending if interruptible else _done)

    async def _done_or_ending(self, running: asyncio.Task[Outcome]) -> None:
        running.add_done_callback(self._on_change)
        await self._until(lambda: running.done() or bool(self._cause))

    # ---- what the service says (Signs calls these) ----

    def became_ready(self) -> None:
        """The service is ready."""
        if not self._ready:
            self._ready = True
            self._wake()

    def extended(self, seconds: float) -> None:
        """The service asks for so much more time to start."""
        if self._timer is not None and self._timer.when() < asyncio.get_running_loop().time() + seconds:
            self._arm(seconds)

    def said(self, status: str) -> None:
        self._observer.said(status)

    def noted(self, message: str) -> None:
        self._observer.noted(message)

    def changed_state(self, state: str) -> None:
        """The service says that it is reloading, has reloaded, or is stopping."""
        if not self._cause and not self._exited and self._ready:
            self._observer.became(state, "notify")

    # ---- waiting ----

    def _arm(self, seconds: float) -> None:
        self._disarm()
        if seconds != INFINITY:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.end, ServiceResult.TIMEOUT)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_exit(self, over: asyncio.Task[Outcome]) -> None:
        self._exited = True
        self._wake()

    def _on_change(self, _: object) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ClosedError):
            self._observer.noted(f"a task of the run has failed: {error!r}")

    async def _close(self) -> None:
        """Whatever happened: the tree ends, tasks end, descriptors are closed."""
        self._disarm()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if self.job is not None and not self.job.ended:
            await self.job.kill()
        if tasks:
            await asyncio.wait(tasks)
        if self._signs is not None:
            self._signs.close()


async def _done(running: asyncio.Task[Outcome]) -> None:
    await asyncio.wait({running})
