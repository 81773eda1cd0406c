# SPDX-License-Identifier: Apache-2.0
"""Supervisor: an ``async with`` scope that owns a set of jobs and ends only when every one is gone."""

from __future__ import annotations

import asyncio
import os

import supervisor.control.watch
import supervisor.kernel.diagnose
import supervisor.runtime.conclude  # noqa: F401 - all that an end needs is loaded before: there may be no descriptor left then
from supervisor.errors import ClosedError, ConfigError, JobFailed
from supervisor.kernel.held_signals import Handlers, HeldSignals
from supervisor.kernel.native import OUTPUT, OUTPUT_END, OUTPUT_ERROR, SPAWNED, Engine
from supervisor.model.classify import Evidence, Finding
from supervisor.model.outcome import Exit, Outcome, Usage
from supervisor.model.plan import LaunchPlan
from supervisor.model.sandbox import is_self_contained
from supervisor.model.spec import JobSpec
from supervisor.model.state import JobState
from supervisor.runtime.event_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_EVENTS, EVERY_JOB, EventLog
from supervisor.runtime.execution import Execution
from supervisor.runtime.job import Job
from supervisor.runtime.oneshot import Ground
from supervisor.runtime.pipe_reader import PipeReader
from supervisor.runtime.quicken import quicken
from supervisor.runtime.releases import Releases
from supervisor.runtime.request import Text, on_terminal, open_terminal, spec_for, text_mode
from supervisor.runtime.waiter import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.cgroup_root import CgroupRoot
    from supervisor.kernel.fork_launch import ForkLaunch
    from supervisor.kernel.pty import PseudoTerminal
    from supervisor.model.host import Host
    from supervisor.runtime.event_log import EventReader
    from supervisor.runtime.request import Command

    #: Asks a template to fork with this block into this cgroup: (pid or -1, stage, errno, index).
    Fork = Callable[[bytes, int], asyncio.Future[tuple[int, int, int, int]]]

    Closer = Callable[[bool], Awaitable[object]]

SPAWNERS = 2
#: What comes from outside in the middle of anything; what the scope owns is given back all the same.
INTERRUPTIONS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)


def _close_unused(opening: asyncio.Future[Ground]) -> None:
    """The scope was cancelled while its ground was being found."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class Supervisor:
    """Owns one cgroup subtree, one native engine and the jobs started through it.

    Use it as ``async with Supervisor() as sup``. Leaving the scope stops what still runs (politely,
    then by force after each job's own grace; at once when leaving on an exception) and returns when
    every tree is empty and its cgroup removed. Belongs to the event loop it was entered on.
    """

    def __init__(self, *, cgroup: str = "") -> None:
        self._cgroup = cgroup
        self._ground: Ground | None = None
        self._engine: Engine | None = None
        self._jobs: dict[int, Job] = {}
        self._handlers = Handlers()
        self.log = EventLog()
        self.releases = Releases()
        self._idle: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closers: list[Closer] = []
        self._closing = False
        self._woken: list[Waiter] = []
        self._in_turn = False  # the engine's events are being looked at
        self._forking: tuple[LaunchPlan, bytes] | None = None  # the last plan that was forked, packed

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs that are not over yet, in order of their start."""
        return tuple([job for job in self._jobs.values() if not job.ended])

    @property
    def is_open(self) -> bool:
        """Inside its scope, and not leaving it."""
        return self._engine is not None and not self._closing

    def events(self, *, output: bool = True, max_events: int = DEFAULT_MAX_EVENTS, max_bytes: int = DEFAULT_MAX_BYTES) -> EventReader:
        """The events of every job, as :meth:`Job.events`; ends when the supervisor is closed."""
        snapshot = [event for job in self.jobs for event in job._telling.snapshot(output, job.outcome)]
        return self.log.add(EVERY_JOB, snapshot, max_events=max_events, max_bytes=max_bytes, output=output)

    async def __aenter__(self) -> Supervisor:
        """Raises :class:`ConfigError` when the cgroup named cannot be used, :class:`ClosedError` when it was entered before."""
        if self._loop is not None:
            raise ClosedError("a supervisor is entered once")
        quicken(JobSpec, LaunchPlan, Exit, Usage, Evidence, Finding, Outcome)
        loop = self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        opening = loop.run_in_executor(None, Ground, self._cgroup)
        try:
            self._ground = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        try:
            with HeldSignals(self._handlers):
                self._engine = Engine(events_per_poll=256)
                self._engine.start_spawners(SPAWNERS)
                loop.add_reader(self._engine.fileno(), self._on_ready)
        except BaseException:
            self._release()
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.aclose(at_once=kind is not None)

    async def aclose(self, *, at_once: bool = False) -> None:
        """End every job, wait for all, release everything; safe to call twice.

        Cancelled or interrupted meanwhile, it kills what is left and finishes before the cancellation goes on.
        """
        if self._engine is None:
            return
        self.check_loop()
        trouble = await self._close_features(at_once)
        self._closing = True
        asked = False
        while True:
            try:
                if not asked:
                    asked = True
                    self._end_jobs(at_once or trouble is not None)
                await self.until_idle()
                self._release()
                break
            except INTERRUPTIONS as request:
                trouble = request
                self._kill_jobs()
        if trouble is not None:
            raise trouble

    def _end_jobs(self, at_once: bool) -> None:
        with HeldSignals(self._handlers):
            for job in self.jobs:
                job._execution.stop(0 if at_once else job._execution.spec.kill_grace_ns)
                job._settle()

    def _kill_jobs(self) -> None:
        with HeldSignals(self._handlers):
            for job in self.jobs:
                job._execution.kill()
                job._settle()

    async def until_idle(self) -> None:
        """Until every job is over and what it held is given back; cancelled, it leaves nothing."""
        while self._jobs:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle])  # which others may be waiting for as well

    def on_close(self, closer: Closer) -> Callable[[], None]:
        """Have ``closer(at_once)`` awaited when the scope is left, before its jobs are stopped; the last one registered goes first.

        For what keeps jobs running or makes new ones. When it is cancelled, it is awaited once more with ``at_once``; what it
        raises is raised when everything is closed. Returns the function that takes the registration back.
        """
        self._closers.append(closer)

        def take_back() -> None:
            if closer in self._closers:
                self._closers.remove(closer)

        return take_back

    async def _close_features(self, at_once: bool) -> BaseException | None:
        trouble: BaseException | None = None
        while self._closers:
            closer = self._closers[-1]
            try:
                await closer(at_once or trouble is not None)
            except INTERRUPTIONS as request:
                trouble = request
                continue
            except Exception as error:
                trouble = trouble or error
            if closer in self._closers:
                self._closers.remove(closer)
        return trouble

    def _release(self) -> None:
        with HeldSignals(self._handlers):
            engine, ground = self._engine, self._ground
            self.log.close()
            self._engine = self._ground = None
            if engine is not None:
                asyncio.get_running_loop().remove_reader(engine.fileno())  # without effect when it was never added
                engine.close()
            if ground is not None:
                ground.close()

    async def start(
        self,
        args: Command | JobSpec,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        pty: bool | tuple[int, int] = False,
        **options: Any,
    ) -> Job:
        """Start a command and return its job as soon as it runs, or has failed to.

        Takes what :func:`supervisor.run` takes, or a :class:`JobSpec`. PIPE gives the job a pipe whose other end
        is ``job.stdin``, ``job.stdout`` or ``job.stderr``; ``stdin=other.stdout`` connects two jobs. ``pty``: True or (rows,
        columns) gives the job a terminal, whose other side is ``job.stdin`` and ``job.stdout``. A program that is missing or
        refused gives a job in the state ``failed`` whose outcome says why. Raises :class:`ConfigError`
        and :class:`UnsupportedError` before anything is started, :class:`ClosedError` outside the scope.
        Cancelled while the launch is under way, the job is killed.
        """
        upstream = options.get("stdin")
        if isinstance(upstream, PipeReader):
            options["stdin"] = upstream.hand_over()
        try:
            job = self._begin(args, text_mode(text, encoding, errors), options, pipes=True, pty=pty)
            try:
                await self.changed(job, lambda: job.state != JobState.STARTING)
            except BaseException:
                job._give_up()
                raise
        except BaseException:
            if isinstance(upstream, PipeReader):
                upstream.take_back()
            raise
        if isinstance(upstream, PipeReader):
            upstream.close()  # the new job has it: when it reads no more, the one before it shall learn so
        return job

    async def run(
        self,
        args: Command | JobSpec,
        *,
        check: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **options: Any,
    ) -> Outcome:
        """Start a command and wait for its outcome, PIPE collects; cancelled, it kills the job and waits for its end.

        With ``check=True`` every verdict but ``ok`` raises :class:`JobFailed`.
        """
        job = self._begin(args, text_mode(text, encoding, errors), options, pipes=False)
        try:
            outcome = await job.wait()
        except asyncio.CancelledError:
            job._give_up()
            await asyncio.shield(self.changed(job, lambda: job.ended))
            raise
        if check and not outcome.ok:
            raise JobFailed(outcome)
        return outcome

    def _begin(self, args: Command | JobSpec, mode: Text, options: dict[str, Any], *, pipes: bool, pty: Any = False) -> Job:
        if isinstance(args, JobSpec) and options:
            raise ConfigError(f"{next(iter(options))}: a JobSpec says everything itself; change the specification instead")
        spec = args if isinstance(args, JobSpec) else spec_for(args, mode, options, pipes)
        if not pty:
            return self._launch(spec, mode)
        terminal = open_terminal(pty, spec)
        try:
            return self._launch(on_terminal(spec, terminal), mode, terminal=terminal)
        finally:
            terminal.close()

    @property
    def forks(self) -> bool:
        """Whether a template can fork jobs here: only into a cgroup."""
        return self._ground is not None and self._ground.root is not None

    async def start_forked(self, spec: JobSpec, fork: Fork) -> Job:
        """Start a job whose process is not executed but forked, by ``fork``, from the template of a pool.

        Needs :attr:`forks`. Cancelled while the fork is under way, the job is killed. Raises what :meth:`start` raises.
        """
        from supervisor.kernel.fork_launch import ForkLaunch, fork_block

        job = self._launch(spec, Text(), forked=True)
        assert self._ground is not None and self._ground.root is not None
        execution = job._execution
        plan = execution.plan
        if self._forking is None or self._forking[0] is not plan:
            self._forking = (plan, fork_block(plan))
        with HeldSignals(self._handlers):
            launch = ForkLaunch(plan, self._forking[1], self._ground.root.fd, execution.token)
            if launch.child.err != 0:
                self._adopt(job, launch.child)
            else:
                forked = fork(self._forking[1], launch.leaf_fd)
                forked.add_done_callback(lambda done: self._adopt_forked(job, launch, *done.result()))
        try:
            await self.changed(job, lambda: job.state != JobState.STARTING)
        except asyncio.CancelledError:
            job._give_up()
            raise
        return job

    def _adopt_forked(self, job: Job, launch: ForkLaunch, pid: int, stage: int, number: int, index: int) -> None:
        with HeldSignals(self._handlers):
            self._adopt(job, launch.forked(pid, stage, number, index))

    def _adopt(self, job: Job, child: Any) -> None:
        job._execution.adopt(child)
        job._wake()
        job._settle()

    def _launch(
        self,
        spec: JobSpec,
        text: Text,
        root: CgroupRoot | None = None,
        keep: Callable[[Cgroup], None] | None = None,
        *,
        terminal: PseudoTerminal | None = None,
        forked: bool = False,
    ) -> Job:
        """``root``: where the job's cgroup is made, unless in our own; ``keep``: who takes over what it leaves behind."""
        if not self.is_open or self._engine is None or self._ground is None:
            raise ClosedError("the supervisor is not open: use it inside 'async with'")
        self.check_loop()
        plan, host = self._ground.plan(spec)
        job: Job | None = None
        try:
            with HeldSignals(self._handlers) as held:  # until it is among our jobs
                execution = Execution(self._engine, spec, plan, host, root or self._ground.root)
                execution.guarded = True
                execution.tells_early = spec.sandbox is not None and is_self_contained(spec.sandbox)
                execution.keep = keep
                try:
                    if terminal is not None:
                        execution.streams.talk_through(*terminal.take())
                    made = Job(self, execution, text)
                    if spec.preexec:
                        execution.launch(held)
                    elif not forked:
                        execution.submit()
                        self.releases.launching()
                except BaseException:
                    execution.release()
                    raise
                job = self._jobs[execution.token] = made
        except BaseException:
            if job is not None:  # a signal's handler has raised, and nobody but us will know the job
                job._give_up()
            raise
        if spec.preexec:
            job._settle()
        return job

    def stands_on(self) -> tuple[CgroupRoot | None, Host]:
        """Our cgroup subtree, or None without one, and the host's facts; raises :class:`ClosedError` outside the scope."""
        if not self.is_open or self._ground is None:
            raise ClosedError("the supervisor is not open: use it inside 'async with'")
        return self._ground.root, self._ground.host

    async def changed(self, job: Job, done: Callable[[], bool]) -> None:
        """Wait until ``done()`` is true; looked at after everything that happens to the job."""
        while not done():
            waiter = Waiter(self.check_loop())
            if job._waiters is None:
                job._waiters = {}
            job._waiters[waiter] = None
            try:
                await waiter
            except asyncio.CancelledError:
                if job._waiters is not None:  # who looks again and again must leave nothing each time
                    job._waiters.pop(waiter, None)
                raise

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, which must be the one it was entered on: on another one everybody would wait for ever.

        A child forked from this process has a copy of us, and with it a hand on our jobs: leaving the scope there must not end them.
        Raises :class:`ConfigError`.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise ConfigError("the supervisor and its jobs belong to another event loop: enter a supervisor on this one")
        if os.getpid() != self._pid:
            raise ConfigError("the supervisor and its jobs belong to the process that this one was forked from")
        return loop

    def _on_ready(self) -> None:
        self._in_turn = True
        try:
            with HeldSignals(self._handlers):  # what the engine says it says once
                self._take_events()
        finally:
            self._in_turn = False
            self._resume_woken()

    def wake(self, waiters: Iterable[Waiter]) -> None:
        """Something happened to a job: let these tasks go on, at the end of the turn in which the engine told it, or soon."""
        if not self._woken and not self._in_turn and self._loop is not None:
            self._loop.call_soon(self._resume_woken)
        self._woken += waiters

    def _resume_woken(self) -> None:
        woken, self._woken = self._woken, []
        while woken:
            try:
                woken.pop(0).resume()
            except BaseException:
                if woken:
                    self.wake(woken)
                raise

    def _take_events(self) -> None:
        assert self._engine is not None
        jobs = self._jobs
        touched: dict[int, Job] = {}
        failed: Exception | None = None
        for event in self._engine.poll(0):
            if event.kind == SPAWNED:
                self.releases.launched()
            job = jobs.get(event.token)
            if job is None:
                continue
            execution = job._execution
            before = execution.state
            if event.kind == OUTPUT:
                job._telling.output(event.code)
                continue
            if event.kind == OUTPUT_ERROR:
                job._telling.lost(event.code, event.detail)
                continue
            if event.kind != OUTPUT_END or execution.outcome is None:
                try:
                    execution.on_event(event)
                except Exception as error:  # the events of the others must not be lost with it
                    failed = failed or error
            touched[event.token] = job
            if execution.state != before:
                job._wake()
        for job in touched.values():
            job._settle()
        if failed is not None:
            raise failed

    def forget(self, job: Job) -> None:
        """The job is over: it no longer holds the scope open."""
        self._jobs.pop(job.id, None)
        if not self._jobs and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
