# SPDX-License-Identifier: Apache-2.0
"""Service: a specification kept running, in as many replicas as asked for."""

from __future__ import annotations

import asyncio

from supervisor.errors import ClosedError, ConfigError, ServiceFailed
from supervisor.model.service import check_replicas
from supervisor.model.service_state import ServiceResult, ServiceState, combined_state
from supervisor.model.state import JobState
from supervisor.model.value import replace
from supervisor.runtime.instance import Instance
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.model.service import ServiceSpec
    from supervisor.runtime.attempt import Launch
    from supervisor.runtime.instance import Restarted
    from supervisor.runtime.supervisor import Supervisor


class Service:
    """Owns the replicas of one service inside a supervisor, which stops them when its scope is left.

    ``launch`` starts each job instead of ``supervisor.start``: ``functools.partial(channel.start, supervisor)`` gives every run the
    same channel. ``on_restart(job)`` is called, and awaited, beside each run that follows a restart; what it raises is logged.
    Use it as ``async with Service(sup, spec) as service``, or call :meth:`start` and :meth:`stop`. Belongs to the supervisor's loop.
    """

    def __init__(
        self, supervisor: Supervisor, spec: ServiceSpec, *, launch: Launch | None = None, on_restart: Restarted | None = None
    ) -> None:
        self.spec = spec
        self._supervisor = supervisor
        self._launch = launch or supervisor.start
        self._on_restart = on_restart
        self._instances: list[Instance] = []
        self._waiting = Turns()
        self._take_back: Callable[[], None] | None = None
        self._wanted = False  # started by hand and not stopped since
        self._grow(spec.replicas)

    # ---- how it stands ----

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def state(self) -> str:
        """One of ``inactive activating active reloading deactivating failed``; of several replicas the most telling."""
        return combined_state(instance.state for instance in self._instances)

    @property
    def result(self) -> str:
        """Why the last run ended: ``success``, or the first replica's that did not end so."""
        return next((found.result for found in self._instances if found.result != ServiceResult.SUCCESS), ServiceResult.SUCCESS)

    @property
    def reason(self) -> str:
        """The last change in words, of the replica that :attr:`result` is from."""
        return next((found.reason for found in self._instances if found.result == self.result), "")

    @property
    def replicas(self) -> tuple[Instance, ...]:
        """Each replica with its own ``number state result status reason restarts healthy outcome job``."""
        return tuple(self._instances)

    @property
    def restarts(self) -> int:
        """Restarts of all replicas since they were started by hand."""
        return sum(instance.restarts for instance in self._instances)

    async def wait(self, *states: str) -> str:
        """Wait until the service is in one of the states, ``inactive`` or ``failed`` by default, and return it.

        A state that is passed through within one turn of the event loop may be missed. Raises :class:`ClosedError` when the supervisor
        is closed and it comes to none of them any more.
        """
        wanted = frozenset(states) or ServiceState.ENDED
        if unknown := wanted - set(ServiceState.ALL):
            raise ConfigError(f"wait: {', '.join(sorted(unknown))} is no state of a service; there are {', '.join(ServiceState.ALL)}")
        await self.until(lambda: self.state in wanted)
        return self.state

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()`` is true; looked at after every change of any replica.

        Raises :class:`ClosedError` when all replicas are over and the supervisor is closed: nothing changes any more.
        """
        closing = False

        async def close(at_once: bool) -> None:
            nonlocal closing
            closing = True
            self._waiting.wake_all()

        take_back = self._supervisor.on_close(close)
        try:
            while not done():
                if (closing or not self._supervisor.is_open) and self.state in ServiceState.ENDED:
                    raise ClosedError(f"service {self.name} is {self.state}, and its supervisor is closed")
                await self._waiting.wait()
        finally:
            take_back()

    def _register(self) -> None:
        if self._take_back is None:
            self._take_back = self._supervisor.on_close(self._close)

    def _changed(self) -> None:
        if self._take_back is not None and all(instance.state in ServiceState.ENDED for instance in self._instances):
            self._take_back()  # nothing is left for the supervisor to stop
            self._take_back = None
        self._waiting.wake_all()

    # ---- control ----

    async def start(self) -> None:
        """Start every replica and return when all are up (a oneshot: when it has done its work).

        Automatic restarts on the way are waited for; bound the time with ``asyncio.timeout``. Cancelled, the start goes on.
        Raises :class:`ServiceFailed` when a replica gives up before it was up, :class:`ClosedError` outside the supervisor's scope.
        """
        if not self._supervisor.is_open:
            raise ClosedError("the supervisor of this service is not open: use it inside 'async with'")
        self._wanted = True
        await self._start_these(tuple(self._instances))

    async def _start_these(self, instances: tuple[Instance, ...]) -> None:
        for instance in instances:
            instance.start()
        self._register()
        await self._until_up(instances)

    async def _until_up(self, instances: tuple[Instance, ...]) -> None:
        await self.until(lambda: all(instance.was_up or instance.settled for instance in instances))
        for instance in instances:
            if not instance.was_up and instance.result != ServiceResult.SUCCESS:
                raise ServiceFailed(self._shown(instance), instance.result, instance.reason, instance.outcome)

    def _shown(self, instance: Instance) -> str:
        return self.name if len(self._instances) == 1 else f"{self.name}@{instance.number}"

    async def stop(self, *, at_once: bool = False) -> None:
        """Stop every replica and return when the trees are empty; ``at_once``: by SIGKILL. Cancelled, the stop goes on."""
        self._wanted = False
        instances = tuple(self._instances)
        for instance in instances:
            instance.end(at_once=at_once)
        for instance in instances:
            await instance.stop(at_once=at_once)

    async def restart(self, *, rolling: bool = False, max_unavailable: int = 1) -> None:
        """Stop and start every replica: all at once, or ``rolling``, no more than ``max_unavailable`` of them down at a time.

        A rolling restart ends at the first replica that does not come up, the others still run as they did. Raises as :meth:`start`.
        """
        if not rolling:
            await self.stop()
            await self.start()
            return
        if max_unavailable < 1:
            raise ConfigError("max_unavailable: must be at least 1, or nothing could be restarted")
        for first in range(0, len(self._instances), max_unavailable):
            batch = tuple(self._instances[first : first + max_unavailable])
            await asyncio.gather(*[instance.stop() for instance in batch])
            await self._start_these(batch)

    async def scale(self, replicas: int) -> None:
        """Start replicas, or stop those with the highest numbers; the others are not touched. Raises as :meth:`start`."""
        check_replicas(replicas)
        self.spec = replace(self.spec, replicas=replicas)
        gone = self._instances[replicas:]
        del self._instances[replicas:]
        new = self._grow(replicas)
        for instance in gone:
            instance.end()
        if self._wanted:
            await asyncio.gather(self._start_these(new), *[instance.stop() for instance in gone])
        else:
            await asyncio.gather(*[instance.stop() for instance in gone])
        self._changed()

    def _grow(self, replicas: int) -> tuple[Instance, ...]:
        new = tuple(
            [
                Instance(self._supervisor, self.spec, number, self._launch, self._on_restart, self._changed)
                for number in range(len(self._instances), replicas)
            ]
        )
        self._instances += new
        return new

    async def reload(self) -> None:
        """Have every active replica read its configuration anew. Raises :class:`ConfigError` where no way to do so is specified, and
        :class:`ServiceFailed` when one does not succeed; it goes on running."""
        if self.spec.exec_reload is None and self.spec.reload_signal is None:
            raise ConfigError(f"service {self.name}: neither exec_reload nor reload_signal says how to reload it")
        instances = [instance for instance in self._instances if instance.state == ServiceState.ACTIVE]
        done = await asyncio.gather(*[instance.reload() for instance in instances])
        for instance, good in zip(instances, done, strict=True):
            if not good:
                raise ServiceFailed(self._shown(instance), instance.result, "it did not reload", instance.outcome)

    async def pause(self) -> None:
        """Stop the trees of all replicas where they are; watchdog and health checks stand still."""
        for instance in self._instances:
            if instance.job is not None:
                await instance.job.pause()

    async def resume(self) -> None:
        """Let paused replicas run on."""
        for instance in self._instances:
            if instance.job is not None and instance.job.state == JobState.PAUSED:
                await instance.job.resume()

    async def _close(self, at_once: bool) -> None:
        await self.stop(at_once=at_once)

    async def __aenter__(self) -> Service:
        """Start; what fails to start is stopped again before the exception goes on."""
        try:
            await self.start()
        except BaseException:
            await self.stop(at_once=True)
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.stop(at_once=kind is not None)
