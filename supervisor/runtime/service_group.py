# SPDX-License-Identifier: Apache-2.0
"""ServiceGroup: services that need each other, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio

from supervisor.control.ordering import check_order, drawn_in, drawn_out
from supervisor.errors import ConfigError, ServiceFailed
from supervisor.model.service_state import ServiceResult, ServiceState
from supervisor.model.spelling import nearest
from supervisor.runtime.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.model.service import ServiceSpec
    from supervisor.runtime.attempt import Launch
    from supervisor.runtime.instance import Restarted
    from supervisor.runtime.supervisor import Supervisor


class ServiceGroup:
    """Owns a set of services that know each other by name.

    ``after`` orders: a service starts when those it is after are up (a oneshot: done), and stops before they do. ``requires``
    draws others in, and out: whoever requires a service that is stopped by hand is stopped first. A service that is after what it
    requires is not started when that one fails. Independent services start and stop side by side.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        specs: Iterable[ServiceSpec],
        *,
        launch: Mapping[str, Launch] | None = None,
        on_restart: Mapping[str, Restarted] | None = None,
    ) -> None:
        """``launch`` and ``on_restart``: those of single services, by name.

        Raises :class:`ConfigError` with every double or unknown name and every circle."""
        given = tuple(specs)
        self._specs: Mapping[str, ServiceSpec] = {spec.name: spec for spec in given}
        if len(self._specs) < len(given):
            names = [spec.name for spec in given]
            raise ConfigError(
                *[f"{name}: there are two services of this name" for name in sorted({n for n in names if names.count(n) > 1})]
            )
        check_order(self._specs)
        for name in (*(launch or ()), *(on_restart or ())):
            if name not in self._specs:
                raise ConfigError(f"launch, on_restart: there is no service {name!r}{nearest(name, self._specs)}")
        self.services: Mapping[str, Service] = {
            spec.name: Service(supervisor, spec, launch=(launch or {}).get(spec.name), on_restart=(on_restart or {}).get(spec.name))
            for spec in given
        }

    def __getitem__(self, name: str) -> Service:
        """The service of this name; raises :class:`ConfigError`."""
        if name not in self.services:
            raise ConfigError(f"there is no service {name!r}{nearest(name, self.services)}")
        return self.services[name]

    async def start(self, *names: str) -> None:
        """Start the services named, all by default, with everything they require; return when all are up or have failed.

        Raises :class:`ServiceFailed` for the first that failed by itself; the others run. Cancelled, no further service is started.
        """
        wanted = drawn_in(self._specs, [self[name].name for name in names or self.services])
        done = {name: asyncio.get_running_loop().create_future() for name in wanted}
        failures: list[ServiceFailed] = []
        async with asyncio.TaskGroup() as tasks:
            for name in wanted:
                tasks.create_task(self._start_one(name, done, failures))
        if failures:
            raise min(failures, key=lambda failure: failure.result == ServiceResult.DEPENDENCY)

    async def _start_one(self, name: str, done: dict[str, asyncio.Future[bool]], failures: list[ServiceFailed]) -> None:
        spec = self._specs[name]
        good = False
        try:
            for other in spec.after:
                if other in done and not await asyncio.shield(done[other]) and other in spec.requires:
                    raise ServiceFailed(name, ServiceResult.DEPENDENCY, f"{other}, which it requires, has not started")
            await self.services[name].start()
            good = True
        except ServiceFailed as failure:
            failures.append(failure)
        done[name].set_result(good)

    async def stop(self, *names: str, at_once: bool = False) -> None:
        """Stop the services named, all by default, after everything that requires them; returns when all trees are empty.

        Cancelled, the stops that have begun go on.
        """
        wanted = drawn_out(self._specs, [self[name].name for name in names or self.services])
        done = {name: asyncio.get_running_loop().create_future() for name in wanted}
        async with asyncio.TaskGroup() as tasks:
            for name in wanted:
                tasks.create_task(self._stop_one(name, done, at_once))

    async def _stop_one(self, name: str, done: dict[str, asyncio.Future[bool]], at_once: bool) -> None:
        if not at_once:
            for other in done:
                if name in self._specs[other].after:
                    await asyncio.shield(done[other])
        await self.services[name].stop(at_once=at_once)
        done[name].set_result(True)

    async def restart(self, *names: str) -> None:
        """Stop the services named and what requires them, and start again those of them that ran. Raises as :meth:`start`."""
        chosen = [self[name].name for name in names or self.services]
        ran = [name for name in drawn_out(self._specs, chosen) if self.services[name].state not in ServiceState.ENDED]
        await self.stop(*chosen)
        await self.start(*{*chosen, *ran})

    async def __aenter__(self) -> ServiceGroup:
        """Start everything; when something fails, all is stopped again before the exception goes on."""
        try:
            await self.start()
        except BaseException:
            await self.stop(at_once=True)
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.stop(at_once=kind is not None)
