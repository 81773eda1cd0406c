# SPDX-License-Identifier: Apache-2.0
"""Pool: warm worker processes inside limits that take tasks, one after the other."""

from __future__ import annotations

import asyncio
import os
from typing import TypeVar

from supervisor.control.pool import Sizes, Wear
from supervisor.errors import ClosedError, ConfigError
from supervisor.model.limits import Limits
from supervisor.model.units import parse_bytes, parse_duration_ns
from supervisor.model.value import replace
from supervisor.runtime.pool_crew import Crew
from supervisor.runtime.pool_launch import CommandLauncher, PythonLauncher, preparation
from supervisor.runtime.pool_line import as_line
from supervisor.runtime.pool_map import Results
from supervisor.runtime.pool_task import UNLIMITED, AsyncTask, TaskLimits, packed, returned
from supervisor.runtime.request import make_spec
from supervisor.runtime.set_limits import wanted_limits
from supervisor.runtime.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from typing import Any, Final

    from supervisor.runtime.pool_executor import PoolExecutor
    from supervisor.runtime.pool_task import Batch

T = TypeVar("T")
DEFAULT_IDLE: Final = "1min"
FOREVER_NS: Final = 1 << 60
#: What cannot be limited for one task, and what can be done instead.
WHOLE_LIFE: Final = {
    "wall_time_max": "use timeout",
    "idle_time_max": "use timeout",
    "cpu_time_max": "use timeout, or limits of the pool with max_tasks=1",
    "limit_cpu": "use timeout, or limits of the pool with max_tasks=1",
    "output_max": "use limits of the pool with max_tasks=1",
}
RESERVED: Final = ("stdin", "input", "pass_fds", "capture_output")


class Tasks:
    """The ways to give a pool work, under the same terms for every task."""

    def __init__(self, pool: Pool, terms: TaskLimits) -> None:
        self._pool = pool
        self._terms = terms

    def submit(self, function: Callable[..., Any] | str | bytes, /, *args: Any, **kwargs: Any) -> AsyncTask:
        """A future of ``function(*args, **kwargs)`` called in a worker; cancelling it stops the work.

        The call is pickled now. Tasks begin in the order in which they were submitted. Raises :class:`ConfigError`
        for what cannot be pickled, :class:`ClosedError`, and :class:`BrokenError` when no worker can be had.
        The future raises what the function raised, its traceback there as ``__cause__``; :class:`JobFailed` with
        the outcome when the worker died at this task; :class:`TaskTimeoutError`; :class:`RemoteError`.
        """
        crew = self._pool._open_crew()
        task = AsyncTask()
        task.content = self._pool._packed(function, args, kwargs)
        task.terms = self._terms
        crew.submit(task)
        return task

    async def run(self, function: Callable[..., Any] | str | bytes, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function in a worker and return what it returns; cancelled, the work is stopped. See :meth:`submit`."""
        return await self.submit(function, *args, **kwargs)

    def map(self, function: Callable[..., Any] | Iterable[str | bytes], /, *iterables: Iterable[Any]) -> Results:
        """Call the function for each item; ``await`` it for a list, or ``async for`` it, in the order of the items.

        Small tasks are sent ahead to busy workers, so many go at once. Leaving early, or the first exception,
        cancels the rest. A pool of commands takes the lines alone. The iterables are read as results are taken, a bounded distance ahead.
        """
        return self._pool._results(self, function, iterables, ordered=True)

    def as_completed(self, function: Callable[..., Any] | Iterable[str | bytes], /, *iterables: Iterable[Any]) -> AsyncIterator[Any]:
        """As :meth:`map`, in the order in which results come."""
        return self._pool._results(self, function, iterables, ordered=False).__aiter__()

    def _submit_of(self, batch: Batch, function: Any, args: tuple[Any, ...]) -> AsyncTask:
        crew = self._pool._open_crew()
        task = AsyncTask()
        task.content = self._pool._packed(function, args, {})
        task.terms = self._terms
        if self._terms is UNLIMITED:  # a clock of its own for each: nothing is sent ahead
            task.batch = batch
        crew.submit(task)
        return task


class Pool(Tasks):
    """Owns a crew of worker processes, each a job under ``limits``, and the tasks given to it.

    ``async with Pool(max_processes=8, limits=...) as pool: value = await pool.run(function, *args)``. Leaving the
    scope waits for the tasks given and ends the workers; leaving it on an exception stops everything at once.
    Belongs to the event loop it was entered on; other threads use :meth:`executor`.
    """

    def __init__(
        self,
        max_processes: int | None = None,
        *,
        min_processes: int = 0,
        spare: int = 0,
        limits: Limits | Mapping[str, Any] | None = None,
        sandbox: Any = None,
        best_effort: Iterable[str] = (),
        command: Sequence[str] | str | None = None,
        text: bool = True,
        preload: Sequence[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        idle_timeout: Any = DEFAULT_IDLE,
        max_tasks: int | None = None,
        max_age: Any = None,
        max_memory: Any = None,
        timeout: Any = None,
        supervisor: Supervisor | None = None,
        **options: Any,
    ) -> None:
        """``min_processes`` are kept, ``spare`` free ones besides those at work, up to ``max_processes`` (the processors).

        ``limits``, ``sandbox``, ``best_effort`` and further options of :meth:`Supervisor.start` hold for each worker.
        ``command``: a program that answers lines with lines, as ``text`` or bytes, instead of Python. ``preload``:
        modules that a worker imports first. ``initializer``: called in each worker. ``idle_timeout``: how long
        more than ``min_processes`` may be idle. ``max_tasks``, ``max_age``, ``max_memory`` (resident): a worker
        is replaced after so much. ``timeout``: of each task. Raises :class:`ConfigError`.
        """
        most = (os.cpu_count() or 1) if max_processes is None else max_processes
        problems = _problems(most, min_processes, spare, max_tasks)
        if command is not None and (preload or initializer is not None):
            problems.append("command: a program has no preload and no initializer")
        problems += [f"{name}: a pool's workers speak over descriptors of their own" for name in RESERVED if name in options]
        if command is not None and not command:
            problems.append("command: the command is missing")
        if isinstance(preload, (str, bytes)):
            problems.append(f"preload: must be a list of module names such as [{preload!r}]")
        if problems:
            raise ConfigError(*problems)
        self._sizes = Sizes(least=min_processes, most=most, spare=spare, idle_ns=_ns("idle_timeout", idle_timeout))
        self._wear = Wear(
            tasks_max=max_tasks,
            age_max_ns=None if max_age is None else _ns("max_age", max_age),
            memory_max_bytes=None if max_memory is None else _bytes("max_memory", max_memory),
        )
        self._options = {"limits": limits, "sandbox": sandbox, "best_effort": tuple(best_effort), **options}
        self._limits = make_spec(["worker"], **self._options).limits  # and every other option is checked
        self._command = None if command is None else (command,) if isinstance(command, str) else tuple(command)
        self._text = text
        self._preload = tuple(preload)
        self._initializer = None if initializer is None else _packed_initializer(initializer, initargs)
        self._given = supervisor
        self._own: Supervisor | None = None
        self._crew: Crew | None = None
        super().__init__(self, UNLIMITED if timeout is None else TaskLimits(timeout_ns=_ns("timeout", timeout)))

    def under(self, *, timeout: Any = None, interrupt: Any = None, **limits: Any) -> Tasks:
        """The same pool with terms for each task: ``await pool.under(timeout="2s", memory_max="512M").run(function)``.

        ``timeout``: from the moment the task is sent; then the worker is killed and :class:`TaskTimeoutError` raised.
        ``interrupt``: when stopped, the task is first asked by KeyboardInterrupt, and killed after so long.
        ``limits``: set on the worker by ``Job.set_limits`` while it is at the task; what cannot be set fails the task. Raises
        :class:`ConfigError`, also for limits on what a worker uses in its whole life: its earlier tasks would count.
        """
        terms = self._terms
        if timeout is not None:
            terms = replace(terms, timeout_ns=_ns("timeout", timeout))
        if interrupt is not None:
            if self._command is not None:
                raise ConfigError("interrupt: only Python workers can be asked")
            terms = replace(terms, interrupt_ns=_ns("interrupt", interrupt))
        if limits:
            wanted_limits(None, limits)
            if whole := [f"{name}: counts over the worker's whole life; {remedy}" for name, remedy in WHOLE_LIFE.items() if name in limits]:
                raise ConfigError(*whole)
            terms = replace(terms, limits=dict(limits))
        return Tasks(self, terms)

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the workers that live now."""
        crew = self._crew
        return () if crew is None else tuple([worker.job.pid for worker in crew.workers if worker.job is not None and worker.job.pid])

    @property
    def broken(self) -> bool:
        """No worker can be had, and every task is refused with :class:`BrokenError`."""
        return self._crew is not None and self._crew.broken is not None

    def executor(self) -> PoolExecutor:
        """A :class:`concurrent.futures.Executor` for other threads, ``loop.run_in_executor`` and libraries that take one.

        Its ``shutdown`` ends the executor, not the pool. A task that runs is not stopped by ``Future.cancel``, as the
        standard library has it. Waiting for its futures on the pool's own event loop's thread would wait for ever.
        """
        from supervisor.runtime.pool_executor import PoolExecutor

        return PoolExecutor(self._checked_crew(), self._packed, self._terms)

    async def __aenter__(self) -> Pool:
        """Open the pool and start ``min_processes`` and ``spare`` workers, without waiting for them."""
        if self._crew is not None:
            raise ClosedError("a pool is entered once")
        running = self._given
        if running is None:
            running = self._own = await Supervisor().__aenter__()
        limits = self._limits.given()
        launcher: PythonLauncher | CommandLauncher
        if self._command is not None:
            launcher = CommandLauncher(running, self._options, limits, self._command)
        elif self._preload and running.forks and not self._options["sandbox"] and not self._options.get("preexec"):
            from supervisor.runtime.pool_template import TemplateLauncher

            taken = None if self._initializer is None else preparation(self._preload, self._initializer)
            launcher = TemplateLauncher(running, self._options, limits, preparation(self._preload, None), self._preload, taken)
        else:
            launcher = PythonLauncher(running, self._options, limits, preparation(self._preload, self._initializer))
        self._crew = Crew(launcher, self._sizes, self._wear, returned if self._command is None else self._line)
        self._crew.grow()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.aclose(at_once=kind is not None)

    async def aclose(self, *, at_once: bool = False) -> None:
        """Wait for the tasks given (or cancel them: ``at_once``), end the workers; safe to call twice.

        Cancelled meanwhile, it stops everything and finishes before the cancellation goes on.
        """
        crew, own = self._crew, self._own
        if crew is None:
            return
        try:
            try:
                if not at_once:
                    await crew.drained()
            except BaseException:
                at_once = True
                raise
            finally:
                await crew.close(at_once=at_once)
        finally:
            if own is not None:
                await own.aclose(at_once=True)

    def _open_crew(self) -> Crew:
        crew = self._checked_crew()
        if asyncio.get_running_loop() is not crew.loop:
            raise ConfigError("the pool belongs to another event loop: use pool.executor() here")
        return crew

    def _checked_crew(self) -> Crew:
        crew = self._crew
        if crew is None:
            raise ClosedError("the pool is not open: use it inside 'async with'")
        crew.check()
        return crew

    def _results(self, tasks: Tasks, function: Any, iterables: tuple[Iterable[Any], ...], *, ordered: bool) -> Results:
        self._open_crew()
        if self._command is not None and not iterables:  # map(lines)
            return Results(tasks, as_line, (function,), ordered=ordered)
        return Results(tasks, function, iterables, ordered=ordered)

    def _packed(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        if self._command is None:
            return packed(function, args, kwargs)
        if args and function is as_line and not kwargs:
            return bytes(as_line(args[0]))
        if args or kwargs:
            raise ConfigError("line: a pool of commands takes one line and nothing else")
        return as_line(function)

    def _line(self, body: Any) -> tuple[Any, BaseException | None]:
        if not self._text:
            return bytes(body), None
        try:
            return str(body, "utf-8"), None
        except UnicodeDecodeError as error:
            return None, error


def _packed_initializer(function: Callable[..., object], args: tuple[Any, ...]) -> bytes:
    from pickle import dumps

    packed(function, args, {})  # for its error
    return dumps((function, args))


def _problems(most: int, least: int, spare: int, max_tasks: int | None) -> list[str]:
    problems = []
    if not _is_count(most, 1):
        problems.append(f"max_processes: must be a number of at least 1, not {most!r}")
    else:
        for name, given in (("min_processes", least), ("spare", spare)):
            if not _is_count(given, 0) or given > most:
                problems.append(f"{name}: must be between 0 and max_processes ({most}), not {given!r}")
    if max_tasks is not None and not _is_count(max_tasks, 1):
        problems.append(f"max_tasks: must be at least 1, not {max_tasks!r}")
    return problems


def _is_count(given: object, least: int) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= least


def _ns(name: str, given: Any) -> int:
    try:
        amount = parse_duration_ns(given)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    return int(min(amount, FOREVER_NS))


def _bytes(name: str, given: Any) -> int:
    try:
        return int(min(parse_bytes(given), FOREVER_NS))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
