# SPDX-License-Identifier: Apache-2.0
"""One task of a pool: a future of asyncio, or of concurrent.futures, that carries what a worker needs."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pickle import dumps, loads

from supervisor.errors import ConfigError, RemoteError
from supervisor.model.value import value
from supervisor.worker.wire import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol, TypeAlias

    class Canceller(Protocol):
        """Who stops a task that was cancelled."""

        def abandon(self, task: Task) -> None: ...


@value
class TaskLimits:
    """What one task may take: nanoseconds, limits set on its worker meanwhile, and whether it is asked politely first."""

    timeout_ns: int | None = None
    limits: Mapping[str, Any] = {}
    interrupt_ns: int = 0


UNLIMITED = TaskLimits()


class Batch:
    """The tasks of one map: a worker may hold several of them at once, as many as their pace allows."""

    __slots__ = ("pace_ns",)

    def __init__(self) -> None:
        self.pace_ns = 0  # until the first answer: nothing is sent ahead


class AsyncTask(asyncio.Future["Any"]):
    """A task that a coroutine waits for; cancelling it stops the work."""

    number = 0
    timed_out = False
    content: bytes
    terms: TaskLimits = UNLIMITED
    batch: Batch | None = None
    canceller: Canceller | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Take the task back: out of the queue, or by ending the worker that is at it."""
        if not super().cancel(msg):
            return False
        if self.canceller is not None:
            self.canceller.abandon(self)
        return True

    def begin(self) -> bool:
        """It is about to be sent; False when it was cancelled."""
        return not self.done()


class ThreadTask(concurrent.futures.Future["Any"]):
    """A task of the executor: any thread waits for it; once begun it can no longer be cancelled, as the standard library has it."""

    number = 0
    timed_out = False
    content: bytes
    terms: TaskLimits = UNLIMITED
    batch: Batch | None = None

    _begun = False

    def begin(self) -> bool:
        """It is about to be sent; False when it was cancelled, which whoever waits for it is told here."""
        if self._begun or (self.done() and not self.cancelled()):
            return not self.done()
        self._begun = True
        return self.set_running_or_notify_cancel()


if TYPE_CHECKING:
    Task: TypeAlias = AsyncTask | ThreadTask


def packed(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """A call as bytes. Raises :class:`ConfigError` for what cannot be pickled."""
    try:
        return dumps((function, args, kwargs), PROTOCOL)
    except Exception as error:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise ConfigError(
            f"{name}: the call cannot be sent to another process: {error}; a worker finds functions and classes by name, "
            "so define them at the top of a module"
        ) from error


def returned(body: bytes | bytearray | memoryview) -> tuple[Any, BaseException | None]:
    """What a worker returned; or the error of what it returned that makes no object here."""
    value, reason = _unpickled(body)
    if reason is None:
        return value, None
    return None, _remote(f"what the task returned cannot be unpickled here: {_named(reason)}", "", reason)


def raised(body: bytes | bytearray | memoryview, unsent: bool) -> BaseException:
    """The exception that a task raised, its traceback there as ``__cause__``."""
    try:
        text, summary, raw = loads(body)
    except Exception as reason:
        return _remote(f"a worker said what makes no sense here: {_named(reason)}", "", reason)
    if unsent:
        return RemoteError(f"what the task returned cannot be pickled: {summary}", str(text))
    error, failure = (None, None) if raw is None else _unpickled(raw)
    if failure is not None:
        return _remote(f"what the task raised cannot be unpickled here: {_named(failure)}", str(text), failure)
    if not isinstance(error, Exception) or isinstance(error, StopIteration):  # which a future cannot carry
        return RemoteError(f"the task raised {summary}", str(text))
    error.__cause__ = RemoteError("in the worker:", str(text))
    return error


def _unpickled(body: bytes | bytearray | memoryview) -> tuple[Any, BaseException | None]:
    """The object, or why there is none. What an object does while it is made may raise anything: SystemExit would end our event loop."""
    try:
        return loads(body), None
    except KeyboardInterrupt:  # somebody at the terminal, and ours
        raise
    except BaseException as reason:
        return None, reason


def _remote(summary: str, text: str, reason: BaseException) -> RemoteError:
    failure = RemoteError(summary, text)
    failure.__cause__ = reason
    return failure


def _named(reason: BaseException) -> str:
    return f"{type(reason).__name__}: {reason}"


def settle(task: Task, value: Any, error: BaseException | None) -> None:
    """Tell whoever waits, unless nobody does any more."""
    if task.done():
        return
    if error is None:
        task.set_result(value)
    else:
        task.set_exception(error)
