# SPDX-License-Identifier: Apache-2.0
"""The events of one supervisor as its reader must see them."""

from __future__ import annotations

from supervisor import JobState, Overflow, StateChanged, Supervisor, Terminated
from tests.stress.ground import Broken

#: An event after the last would come soon.
REMEMBERED = 2000
ENDS = (JobState.TERMINATED, JobState.FAILED)


class Told:
    """Reads every event of a supervisor. No number may be missing, no job may change after its last word, none may end without one."""

    def __init__(self, sup: Supervisor) -> None:
        self._reader = sup.events(max_events=1 << 20, max_bytes=1 << 30)
        self._states: dict[int, str] = {}
        self._over: dict[int, None] = {}  # the last of those that have ended
        self.events = 0
        self.ended = 0

    async def follow(self) -> None:
        """Until the supervisor is closed. Raises :class:`Broken`."""
        last = 0
        async for event in self._reader:
            self.events += 1
            if isinstance(event, Overflow):
                raise Broken(f"{event.lost} events were lost for a reader with room for a million")
            if last and event.number != last + 1:
                raise Broken(f"event {event.number} follows {last}: {event}")
            last = event.number
            state = self._states.get(event.job, "")
            if event.job in self._over:
                raise Broken(f"an event after the last one of job {event.job}: {event}")
            if isinstance(event, StateChanged):
                if state and event.previous != state:
                    raise Broken(f"job {event.job} was {state}: {event}")
                self._states[event.job] = event.state
            elif isinstance(event, Terminated):
                if state not in ENDS:
                    raise Broken(f"job {event.job} has ended and was {state}: {event}")
                del self._states[event.job]
                self._over[event.job] = None
                if len(self._over) > REMEMBERED:
                    del self._over[next(iter(self._over))]
                self.ended += 1
            else:
                self._states.setdefault(event.job, "")

    @property
    def open(self) -> tuple[int, ...]:
        """Jobs whose end has not been told."""
        return tuple(self._states)
