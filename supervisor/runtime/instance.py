# SPDX-License-Identifier: Apache-2.0
"""Instance: one replica of a service, kept running."""

from __future__ import annotations

import asyncio
import logging
import random

from supervisor.control.backoff import Backoff, became_up, next_delay
from supervisor.control.recovery import DEFER, GIVE_UP, GROW, find_remedy
from supervisor.control.restart import shall_restart
from supervisor.control.start_limit import StartLimit, may_start
from supervisor.errors import ClosedError
from supervisor.kernel.native import now_ns
from supervisor.model.service_state import Ending, ServiceResult, ServiceState
from supervisor.model.value import replace
from supervisor.runtime.attempt import Attempt
from supervisor.runtime.json_log import tell
from supervisor.runtime.signs import own_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Final

    from supervisor.model.outcome import Outcome
    from supervisor.model.service import ServiceSpec
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.attempt import Launch
    from supervisor.runtime.job import Job
    from supervisor.runtime.supervisor import Supervisor

    Restarted = Callable[[Job], Awaitable[None] | None]

LOGGER: Final = logging.getLogger("supervisor.service")


class Instance:
    """Owns the one task that keeps one replica of a service running; its attributes say how it stands.

    ``state`` and ``result`` are systemd's words, ``status`` the service's own; ``restarts`` counts since the last start by hand;
    ``healthy`` is None where nobody asks; ``outcome`` is that of the last run that ended; ``reason`` explains the last change.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        spec: ServiceSpec,
        number: int,
        launch: Launch,
        on_restart: Restarted | None,
        on_change: Callable[[], None],
    ) -> None:
        self.number = number
        self.state: str = ServiceState.INACTIVE
        self.result: str = ServiceResult.SUCCESS
        self.status = ""
        self.reason = ""
        self.restarts = 0
        self.healthy: bool | None = None
        self.outcome: Outcome | None = None
        self.was_up = False  # since the last start by hand
        self._supervisor = supervisor
        self._spec = spec
        self._launch = launch
        self._on_restart = on_restart
        self._on_change = on_change
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None
        self._calling: asyncio.Task[None] | None = None  # the callback after a restart
        self._waiting: asyncio.Future[None] | None = None  # the delay before the next start
        self._stopping = False
        self._job_spec = spec.job
        self._forget()

    def _forget(self) -> None:
        """What a start by hand begins without: earlier failures, delays and grown limits."""
        self._backoff = Backoff()
        self._start_limit = StartLimit()
        self._failed_starts = 0
        self._begun = False
        self.restarts = 0
        self.was_up = False
        self.healthy = None

    def _own_spec(self) -> JobSpec:
        """The specification of this replica's jobs: it knows its number, and nothing of whose service we are ourselves."""
        job = self._spec.job
        return replace(
            job,
            env={**own_environment(job), "RINGFENCE_REPLICA": str(self.number)},
            labels={**(job.labels or {}), "service": self._spec.name, "replica": str(self.number)},
        )

    @property
    def job(self) -> Job | None:
        """The job of the present run, if there is one."""
        return None if self._attempt is None else self._attempt.job

    @property
    def settled(self) -> bool:
        """It is up, or nothing will happen by itself."""
        return self.state in ServiceState.UP or self.state in ServiceState.ENDED

    # ---- control ----

    def start(self) -> None:
        """Begin to keep it running, as soon as a stop that is under way is done; without effect on one that is kept running."""
        if self._task is not None and not self._stopping:
            return
        before = self._task
        self._stopping = False
        self._forget()
        self._job_spec = self._own_spec()
        self.become(ServiceState.ACTIVATING, "start")
        self._task = asyncio.get_running_loop().create_task(self._keep(before), name=f"{self._spec.name}@{self.number}")

    def end(self, *, at_once: bool = False) -> None:
        """Ask it to stop; ``at_once``: without any grace."""
        self._stopping = True
        if self._attempt is not None:
            self._attempt.end("stop", at_once=at_once)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def stop(self, *, at_once: bool = False) -> None:
        """Stop it and return when its tree is empty. Cancelled, the stop goes on."""
        if self._task is None:
            return
        self.end(at_once=at_once)
        await asyncio.wait({self._task})

    async def reload(self) -> bool:
        """Have the running service read its configuration anew; False when it is not running or did not succeed."""
        if self._attempt is None or self.state != ServiceState.ACTIVE:
            return False
        self.become(ServiceState.RELOADING, "reload")
        attempt = self._attempt
        try:
            return await attempt.reload()
        finally:
            if self._attempt is attempt and self.state == ServiceState.RELOADING:
                self.become(ServiceState.ACTIVE, "reload")

    # ---- the task ----

    def _ends(self) -> bool:
        """Asked of the task itself: it was told to stop, be it that another has been started since."""
        return self._stopping or self._task is not asyncio.current_task()

    async def _keep(self, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})
            self.result, self.reason = ServiceResult.SUCCESS, ""
            while not self._ends() and await self._turn():
                pass
        except ClosedError as error:
            self.reason = str(error)
            if self._supervisor.is_open and not self._ends():  # something else that its launch needs
                self.result = ServiceResult.RESOURCES
        except Exception as error:
            self.result, self.reason = ServiceResult.RESOURCES, f"what keeps it running has failed: {error!r}"
            LOGGER.exception("%s: the task that keeps it running has failed", self._spec.name)
        finally:
            self._attempt = None
            self._stop_calling()
            if self._task is asyncio.current_task():
                self._task = None
                failed = self.result != ServiceResult.SUCCESS
                self.become(ServiceState.FAILED if failed else ServiceState.INACTIVE, self.reason)

    async def _turn(self) -> bool:
        """One run and the decision after it: whether there is another."""
        self._start_limit, allowed = may_start(self._spec, self._start_limit, now_ns())
        if not allowed:
            self.result, self.reason = ServiceResult.START_LIMIT_HIT, "too many starts within start_limit_interval_sec"
            return False
        if self._begun:
            self.restarts += 1
            self._on_change()
        self._begun = True
        attempt = self._attempt = Attempt(self._supervisor, self._spec, self._job_spec, self._launch, self)
        try:
            ending = await attempt.run()
        finally:
            self._attempt = None
            self._stop_calling()
        self.result, self.reason = ending.result, ending.message
        if ending.outcome is not None:
            self.outcome = ending.outcome
        level = logging.INFO if ending.result == ServiceResult.SUCCESS else logging.WARNING
        self._tell(level, f"ended: {ending.message or ending.result}", ending.result)
        if self._ends() or not self._goes_on(ending):
            return False
        self._backoff, delay_ns = next_delay(self._spec, self._backoff, now_ns(), random.random())
        self.become(ServiceState.ACTIVATING, f"restart in {delay_ns / 1e9:g} s: {self.reason}")
        if delay_ns:
            await self._pause(delay_ns / 1e9)
        if self._ends():
            self.result = ServiceResult.SUCCESS  # it was stopped while it waited
            return False
        return True

    def _goes_on(self, ending: Ending) -> bool:
        remedy = find_remedy(self._spec, ending, self._job_spec.limits, self._failed_starts)
        self._failed_starts = self._failed_starts + 1 if ending.result == ServiceResult.RESOURCES else 0
        if remedy.action == DEFER:
            decided = shall_restart(self._spec, ending)
            self.reason = f"{ending.message or ending.result} ({remedy.reason or decided.reason})"
            return decided.again
        self.reason = f"{ending.message} ({remedy.reason})"
        if remedy.action == GROW and remedy.limits is not None:
            self._job_spec = replace(self._job_spec, limits=remedy.limits)
        return remedy.action != GIVE_UP

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(seconds, self._over)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    def _over(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # ---- what happens to the run (the Attempt's observer) ----

    def launched(self, job: Job) -> None:
        """The program runs; after a restart whoever wants to know is told."""
        self.status = ""
        self.healthy = None
        self._tell(logging.INFO, "started" if self.restarts == 0 else f"restarted ({self.restarts})")
        self._on_change()
        if self._on_restart is not None and self.restarts:
            self._calling = asyncio.get_running_loop().create_task(self._call(self._on_restart, job))

    async def _call(self, on_restart: Restarted, job: Job) -> None:
        try:
            answer = on_restart(job)
            if answer is not None:
                await answer
        except Exception:
            LOGGER.exception("%s: on_restart has failed", self._spec.name)

    def _stop_calling(self) -> None:
        if self._calling is not None:
            self._calling.cancel()
            self._calling = None

    def become(self, state: str, cause: str = "") -> None:
        """Take the state and tell."""
        if state == self.state:
            return
        self.state = state
        if state == ServiceState.ACTIVE:
            self.was_up = True
            self._backoff = became_up(self._backoff, now_ns())
        self._tell(logging.INFO if state != ServiceState.FAILED else logging.ERROR, state, cause)
        self._on_change()

    became = become

    def said(self, status: str) -> None:
        self.status = status
        self._on_change()

    def noted(self, message: str) -> None:
        self._tell(logging.WARNING, message)

    def felt(self, healthy: bool) -> None:
        self.healthy = healthy
        self._tell(logging.INFO if healthy else logging.WARNING, "healthy" if healthy else "unhealthy", "health")
        self._on_change()

    def _tell(self, level: int, message: str, cause: str = "") -> None:
        job = self.job
        tell(
            LOGGER,
            level,
            message,
            service=self._spec.name,
            replica=self.number,
            job=0 if job is None else job.id,
            cause=cause or self.reason,
            outcome=self.outcome if job is None else None,
        )
