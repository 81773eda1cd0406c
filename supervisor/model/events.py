# SPDX-License-Identifier: Apache-2.0
"""Events: what happens to jobs, as numbered values.

Every event says ``number`` (ascending within one supervisor; each reader sees ascending numbers),
``time_ns`` (CLOCK_MONOTONIC), ``job`` (its id) and ``replayed``: made from the state a reader found when
it began to read, not from something that happened since. ``kind`` is the class's word for protocols.
"""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from supervisor.model.outcome import Outcome


@value
class Started:
    """The command runs, as process ``pid``."""

    kind = "started"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    pid: int


@value
class StateChanged:
    """The job went from ``previous`` to ``state``."""

    kind = "state_changed"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    previous: str
    state: str


@value
class Paused:
    """The whole tree has stopped."""

    kind = "paused"
    number: int
    time_ns: int
    job: int
    replayed: bool = False


@value
class Resumed:
    """A paused tree runs on."""

    kind = "resumed"
    number: int
    time_ns: int
    job: int
    replayed: bool = False


@value
class Output:
    """Bytes of a collected stream, in order and without gaps; ``stream`` is ``stdout`` or ``stderr``."""

    kind = "output"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    stream: str
    data: bytes


@value
class LimitHit:
    """The job reached the limit called ``limit``; noted before anything is done about it."""

    kind = "limit_hit"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    limit: str


@value
class LimitsChanged:
    """These limits hold from now on (bytes, nanoseconds, counts), each with who enforces it."""

    kind = "limits_changed"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    limits: Mapping[str, Any]
    enforcement: Mapping[str, str]


@value
class Error:
    """Our own work for the job failed: it could not be started, its end could not be seen, or its output has no place to go."""

    kind = "error"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    message: str


@value
class Terminated:
    """The last event of every job, those that never started included."""

    kind = "terminated"
    number: int
    time_ns: int
    job: int
    replayed: bool = False
    outcome: Outcome


@value
class Overflow:
    """This reader was too slow: ``lost`` events before the next one are gone for it; ``job`` is 0."""

    kind = "overflow"
    number: int
    time_ns: int
    job: int = 0
    replayed: bool = False
    lost: int


if TYPE_CHECKING:
    Event = Started | StateChanged | Paused | Resumed | Output | LimitHit | LimitsChanged | Error | Terminated | Overflow
