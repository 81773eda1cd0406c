# SPDX-License-Identifier: Apache-2.0
"""A command beside a service: preparation, stop, reload; it has so long, and always ends."""

from __future__ import annotations

import asyncio

from supervisor.errors import ClosedError, SupervisorError
from supervisor.model.outcome import Outcome, StartError, Verdict
from supervisor.model.units import INFINITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor.model.spec import JobSpec
    from supervisor.runtime.supervisor import Supervisor

    Wait = Callable[[asyncio.Task[Outcome]], Awaitable[None]]


async def run_within(supervisor: Supervisor, spec: JobSpec, seconds: float, wait: Wait) -> Outcome | None:
    """Run a job while ``wait`` waits, ``seconds`` at most; None when it was not done by then and has been killed.

    One that cannot be started at all has an outcome like one whose program is missing. Cancelled, the job is killed and waited
    for. Raises :class:`ClosedError` when the supervisor is closed.
    """
    running = asyncio.get_running_loop().create_task(supervisor.run(spec))
    try:
        async with asyncio.timeout(None if seconds == INFINITY else seconds):
            await wait(running)
    except TimeoutError:
        pass
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
    if running.cancelled():
        return None
    try:
        return running.result()
    except ClosedError:
        raise
    except (SupervisorError, OSError) as error:
        failed = StartError(stage="plan", errno=getattr(error, "errno", 0) or 0, message=str(error))
        return Outcome(verdict=Verdict.START_FAILED, error=failed)
