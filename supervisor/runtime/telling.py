# SPDX-License-Identifier: Apache-2.0
"""Telling: one job's happenings as events, in the order a reader can rely on."""

from __future__ import annotations

from supervisor.kernel import native
from supervisor.kernel.streams import STREAM_NAMES
from supervisor.model.events import Error, LimitHit, Output, Paused, Resumed, Started, StateChanged, Terminated
from supervisor.model.state import JobState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.events import Event
    from supervisor.model.outcome import Outcome
    from supervisor.runtime.event_log import EventLog
    from supervisor.runtime.execution import Execution

OVER: Final = (JobState.TERMINATED, JobState.FAILED)


class Telling:
    """Turns what an execution reports into the events of its job; nothing is made while nobody reads.

    Output comes before the state that it led to, limits before the end they caused, ``Terminated`` last.
    """

    __slots__ = ("_execution", "_hit", "_log", "_lossy", "_told")

    def __init__(self, log: EventLog, execution: Execution) -> None:
        self._log = log
        self._execution = execution
        self._told = {1: 0, 2: 0}  # bytes of each stream that went out as events
        self._hit: set[str] = set()
        self._lossy: set[int] = set()  # streams of which losses were told
        if log.is_read and log.wants_output(execution.token):
            execution.streams.announce(True)

    def _emit(self, kind: type[Any], **fields: Any) -> None:
        self._log.emit(kind, self._execution.token, **fields)

    def state_changed(self, previous: str, state: str) -> None:
        """The execution went from one state to another (it calls this)."""
        if not self._log.is_read:
            return
        if state == JobState.RUNNING and previous == JobState.STARTING:
            self._emit(Started, pid=self._execution.pid)
        elif state in OVER:
            self._tell_the_rest()
        self._emit(StateChanged, previous=previous, state=state)
        if previous == JobState.STARTING and state == JobState.RUNNING:
            self._tell_output()  # it may have written before we heard of its start
        if state == JobState.PAUSED:
            self._emit(Paused)
        elif previous == JobState.PAUSED and state == JobState.RUNNING:
            self._emit(Resumed)

    def limit_hit(self, limit: str) -> None:
        """The execution is about to act on a limit (it calls this)."""
        self._hit.add(limit)
        self._emit(LimitHit, limit=limit)

    def output(self, stream: int) -> None:
        """A collected stream has grown: tell what is new of it, but not before its start was told."""
        if self._execution.state == JobState.STARTING:
            return
        data = self._execution.streams.grown(stream, self._told[stream])
        if data:
            self._told[stream] += len(data)
            self._emit(Output, stream=STREAM_NAMES[stream], data=data)

    def lost(self, stream: int, code: int) -> None:
        """A file takes no more of a stream."""
        if self._log.is_read:
            self._lossy.add(stream)
            self._emit(Error, message=self._execution.streams.failure(stream, code))

    def _tell_output(self) -> None:
        if self._log.wants_output(self._execution.token):
            for stream in STREAM_NAMES:
                self.output(stream)

    def _tell_the_rest(self) -> None:
        self._tell_output()
        for stream, (_, code) in self._execution.streams.lost().items():
            if stream not in self._lossy:  # it was the last piece
                self.lost(stream, code)
        outcome = self._execution.outcome
        for limit in outcome.limits_hit if outcome is not None else ():
            if limit not in self._hit:
                self.limit_hit(limit)

    def ended(self, outcome: Outcome) -> None:
        """The outcome is known."""
        if not self._log.is_read:
            return
        if outcome.error is not None:
            self._emit(Error, message=outcome.error.message)
        self._emit(Terminated, outcome=outcome)

    def snapshot(self, output: bool, ended: Outcome | None) -> list[Event]:
        """How things stand, as events of a reader who comes now; numbered when it is added."""
        execution = self._execution
        made: dict[str, Any] = {"number": 0, "time_ns": native.now_ns(), "job": execution.token, "replayed": True}
        events: list[Event] = []
        if execution.pid:
            events.append(Started(**made, pid=execution.pid))
        if output:
            execution.streams.announce(True)
            events += [Output(**made, stream=name, data=data) for stream, name in STREAM_NAMES.items() if (data := self._so_far(stream))]
        events.append(StateChanged(**made, previous=JobState.STARTING, state=execution.state))
        if ended is not None:
            events.append(Terminated(**made, outcome=ended))
        return events

    def _so_far(self, stream: int) -> bytes:
        """Everything collected, after those who read already have been told of it."""
        self.output(stream)
        return self._execution.streams.grown(stream, 0)
