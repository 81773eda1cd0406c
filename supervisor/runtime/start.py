# SPDX-License-Identifier: Apache-2.0
"""``supervisor.start``: a job without a scope of one's own, in a supervisor that its event loop's jobs share."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from supervisor.runtime.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.spec import JobSpec
    from supervisor.runtime.job import Job
    from supervisor.runtime.request import Command


class _Shared:
    """Owns the supervisor of one event loop while jobs of :func:`start` live in it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._supervisor: Supervisor | None = None
        self._users = 0
        self._watching: set[asyncio.Task[None]] = set()

    async def start(self, args: Command | JobSpec, options: dict[str, Any]) -> Job:
        self._users += 1
        try:
            async with self._lock:
                if self._supervisor is None:
                    self._supervisor = await Supervisor().__aenter__()
            job = await self._supervisor.start(args, **options)
        except BaseException:
            await asyncio.shield(self._leave())
            raise
        task = asyncio.ensure_future(self._watch(job))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return job

    async def _watch(self, job: Job) -> None:
        try:
            await job.wait()
        finally:  # cancelled: the loop is shutting down, and closing the supervisor ends what still runs
            await self._leave()

    async def _leave(self) -> None:
        self._users -= 1
        async with self._lock:
            if not self._users and self._supervisor is not None:
                leaving, self._supervisor = self._supervisor, None
                await leaving.aclose(at_once=True)


_shared: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared]] = WeakKeyDictionary()


async def start(args: Command | JobSpec, **options: Any) -> Job:
    """Start a command as :meth:`Supervisor.start` does, without a supervisor of one's own.

    The jobs of one event loop share a supervisor, which is opened for the first and closed after the
    last. ``asyncio.run`` ends what still runs when its main function returns. Prefer an ``async with``
    scope where you can: it tells where jobs end.
    """
    loop = asyncio.get_running_loop()
    shared = _shared.get(loop)
    if shared is None:
        shared = _shared[loop] = _Shared()
    return await shared.start(args, options)
