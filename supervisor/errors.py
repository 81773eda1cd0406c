# SPDX-License-Identifier: Apache-2.0
"""Every exception Ringfence raises, in one tree.

A job that breaks its limit is an outcome, not an exception; these say that *our* work failed or was
refused, or that the caller asked for an exception (``check=True``)::

    SupervisorError
    ├── ConfigError(ValueError)     what was asked is wrong: .source, .problems
    ├── UnsupportedError            this host cannot enforce what was asked: .feature, .missing
    ├── SpawnError(OSError)         a job could not be started: .stage, .index
    ├── CgroupError(OSError)        the kernel refused a step on the cgroup tree: .operation
    ├── JobFailed                   opt-in by check=True, and a pool's task whose worker died: .outcome
    │   └── TaskTimeoutError(TimeoutError)  a task of a pool took longer than it may
    ├── RemoteError                 what went wrong inside a worker, as text: .text
    ├── BrokenError                 the other side is gone, or broke the rules: .reason, .peer
    │   └── CorruptError            what the other side left in shared memory makes no sense
    ├── OverrunError                a slow reader of a broadcast lost messages: .lost
    ├── ServiceFailed               a service did not come up: .service, .result, .outcome
    ├── ClosedError                 you closed it already
    ├── BusyError                   somebody else is using it
    ├── ReplyError                  the other side answered with an error: .code, .reason
    ├── TimedOutError(TimeoutError)  your time-out passed first
    └── InternalError               a broken invariant: always a bug of ours
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.outcome import Outcome


class SupervisorError(Exception):
    """The root of the tree; never raised itself."""


class ConfigError(SupervisorError, ValueError):
    """An option, limit, specification or policy is wrong.

    ``problems`` holds every problem found, each one line that names the key and the remedy;
    ``source`` names the file or the place they are in, and may be empty.
    """

    def __init__(self, *problems: str, source: str = "") -> None:
        self.problems = problems
        self.source = source
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(prefix + problem for problem in problems))


class UnsupportedError(SupervisorError):
    """This host cannot enforce ``feature``; ``missing`` names the piece and how to get it."""

    def __init__(self, feature: str, missing: str) -> None:
        self.feature = feature
        self.missing = missing
        super().__init__(f"{feature} cannot be enforced here: {missing}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.feature, self.missing)


class SpawnError(SupervisorError, OSError):
    """A job could not be started: step ``stage`` (the ``index``-th of its plan) failed with ``errno``."""

    def __init__(self, errno: int, strerror: str, stage: str, index: int = 0) -> None:
        super().__init__(errno, strerror)
        self.stage = stage
        self.index = index

    def __str__(self) -> str:
        return f"{self.strerror} (step {self.stage}, errno {self.errno})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.stage, self.index)


class CgroupError(SupervisorError, OSError):
    """The kernel refused ``operation`` on the cgroup file or directory ``filename``."""

    def __init__(self, errno: int, strerror: str, filename: str, operation: str) -> None:
        super().__init__(errno, strerror, filename)
        self.operation = operation

    def __str__(self) -> str:
        return f"{self.operation} {self.filename}: {self.strerror}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.filename, self.operation)


class JobFailed(SupervisorError):
    """A job did not end ``ok`` and the caller asked to be told so; ``outcome`` has everything."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.summary())

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcome,)


class TaskTimeoutError(JobFailed, TimeoutError):
    """A task of a pool took longer than it may, and was stopped; ``outcome`` is that of the worker it took along."""


class RemoteError(SupervisorError):
    """What went wrong inside a worker of a pool, where the exception itself cannot be here; ``text``: the traceback there.

    It is the ``__cause__`` of an exception that a task raised, and is raised itself for a result, or an
    exception, that cannot be pickled or unpickled.
    """

    def __init__(self, summary: str, text: str = "") -> None:
        self.text = text
        super().__init__(summary, text)

    def __str__(self) -> str:
        summary = str(self.args[0])
        return f"{summary}\n\n{self.text.rstrip()}" if self.text else summary


class BrokenError(SupervisorError):
    """The process on the other side has ended, closed its end, or broken the rules before the work was done.

    ``reason`` says which; ``peer`` is its name, empty where it has none.
    """

    def __init__(self, reason: str, peer: str = "") -> None:
        self.reason = reason
        self.peer = peer
        super().__init__(f"{peer}: {reason}" if peer else reason)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, self.peer)


class CorruptError(BrokenError):
    """Shared memory holds what no honest other side writes; nothing of it was used."""


class OverrunError(SupervisorError):
    """A reader of a broadcast was too slow: ``lost`` messages were overwritten; the next read goes on behind them."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        super().__init__(f"{lost} messages were overwritten before they were read")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.lost,)


class ServiceFailed(SupervisorError):
    """A service did not come up, or did not reload; ``result`` is the word for why, ``outcome`` that of its last run or None."""

    def __init__(self, service: str, result: str, reason: str, outcome: Outcome | None = None) -> None:
        self.service = service
        self.result = result
        self.reason = reason
        self.outcome = outcome
        super().__init__(f"service {service}: {result}" + (f": {reason}" if reason else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.service, self.result, self.reason, self.outcome)


class ClosedError(SupervisorError):
    """The object was closed before the call."""


class BusyError(SupervisorError):
    """Another task or thread is using the object, which allows one user at a time."""


class ReplyError(SupervisorError):
    """A request was answered with an error.

    ``code``: ``failed`` (whoever was asked could not do it), ``unknown`` (nobody has that name), ``busy`` (not
    taken in time), ``refused`` (not allowed, or too much at once). ``reason`` is the other side's text.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}" if reason else code)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.reason)


class TimedOutError(SupervisorError, TimeoutError):
    """The time-out of the call passed before what it waits for; nothing of it is left under way at our end."""


class InternalError(SupervisorError):
    """An invariant of ours is broken; please report it."""
