# SPDX-License-Identifier: Apache-2.0
"""Session: commands one after another in one work directory, inside limits for each and for all together."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from contextlib import contextmanager

from supervisor.errors import ClosedError, ConfigError
from supervisor.kernel.audit_file import AuditFile
from supervisor.kernel.work_directory import WorkDirectory
from supervisor.model.changes import compare
from supervisor.model.limits import Limits, tighten
from supervisor.model.sandbox import parse_sandbox
from supervisor.model.session import Record, blame, check_session_limits, in_work, session_environment
from supervisor.model.spec import COLLECT
from supervisor.model.transfer import TransferCaps, parse_name
from supervisor.model.value import replace
from supervisor.runtime.allowance import Allowance
from supervisor.runtime.files import owner_of
from supervisor.runtime.finished import finished
from supervisor.runtime.request import make_spec, text_mode
from supervisor.runtime.supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Final, TypeVar

    from supervisor.model.changes import Look
    from supervisor.model.outcome import Outcome
    from supervisor.model.spec import JobSpec
    from supervisor.model.transfer import Collected
    from supervisor.runtime.job import Job
    from supervisor.runtime.request import Command, Text

    T = TypeVar("T")

END: Final = "end"
KEEP: Final = "keep"
RECORDS_KEPT: Final = 1000
#: Of a command that nobody gave an output_max: what it prints is held in memory.
DEFAULT_OUTPUT_MAX: Final = 16 << 20


class Session:
    """Owns a work directory, a supervisor and a cgroup around everything that runs in it.

    ``directory``: an existing work directory, kept at the end; else a new one is made and removed. ``limits``: of the
    whole session; ``command_limits``: of each command. ``sandbox``: of each command; under ``strict`` the work directory
    is at /work. ``env``: over a small clean environment; :attr:`env` may be changed between commands. ``background``:
    ``end`` or ``keep`` what a command leaves running. ``audit``: a file to which records go as JSON lines. ``caps``: of
    collections and of the looks for changes. Leaving the scope ends everything and removes what the session made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        command_limits: Limits | Mapping[str, Any] | None = None,
        best_effort: Iterable[str] = (),
        sandbox: Any = None,
        env: Mapping[str, str] | None = None,
        user: str | int | None = None,
        group: str | int | None = None,
        background: str = END,
        audit: str | os.PathLike[str] | None = None,
        caps: TransferCaps = TransferCaps(),
        cgroup: str = "",
    ) -> None:
        """Raises :class:`ConfigError`; nothing is made before the scope is entered."""
        self._directory = None if directory is None else os.fspath(directory)
        self._limits = limits if isinstance(limits, Limits) else Limits(**(limits or {}))
        self._best_effort = frozenset(best_effort)
        check_session_limits(self._limits, self._best_effort)
        self._command_limits = command_limits if isinstance(command_limits, Limits) else Limits(**(command_limits or {}))
        self._sandbox = None if sandbox in (None, "none") else parse_sandbox(sandbox)
        self._given_env = env
        self._who: dict[str, Any] = {"user": user, "group": group}
        self._background = _background(background)
        self._audit_path = None if audit is None else os.fspath(audit)
        self._audit: AuditFile | None = None
        self._caps = caps
        self._supervisor = Supervisor(cgroup=cgroup)
        self._work: WorkDirectory | None = None
        self._allowance: Allowance | None = None
        self._number = 0
        self._users = 0
        self._idle: asyncio.Future[None] | None = None
        self._closing = False
        self.env: dict[str, str] = {}
        self.records: deque[Record] = deque(maxlen=RECORDS_KEPT)

    @property
    def directory(self) -> str:
        """The work directory's path on the host."""
        return self._open().path

    @property
    def spent(self) -> str | None:
        """The limit of the session that is used up, after which no command is started; else None."""
        return None if self._allowance is None else self._allowance.spent

    @property
    def enforcement(self) -> Mapping[str, str]:
        """Who enforces each limit of the session."""
        return {} if self._allowance is None else self._allowance.enforcement

    async def __aenter__(self) -> Session:
        """Raises :class:`ConfigError`, and :class:`UnsupportedError` for limits of the session that this host cannot enforce."""
        await self._supervisor.__aenter__()
        try:
            spec = make_spec(["true"], **self._who)
            self._work = WorkDirectory(self._directory, owner_of(spec.credentials))
            if self._audit_path is not None:
                self._audit = AuditFile(self._audit_path, self._work.path)
            self._allowance = Allowance(self._supervisor, self._limits, self._best_effort)
            self.env = session_environment(in_work(self._sandbox, self._work.path)[1], self._given_env)
        except BaseException:
            await self.aclose(at_once=True)
            raise
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.aclose(at_once=kind is not None)

    async def aclose(self, *, at_once: bool = False) -> None:
        """End what still runs, remove what the session made; safe to call twice. Cancelled meanwhile, it finishes first."""
        closing = asyncio.ensure_future(self._close(at_once))
        cancelled = await finished(closing)
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def _close(self, at_once: bool) -> None:
        self._closing = True
        await asyncio.gather(*[job.kill() if at_once else job.terminate() for job in self._supervisor.jobs], return_exceptions=True)
        await self._supervisor.until_idle()  # until their cgroups are removed
        while self._users:  # calls of other tasks, whose commands have just been ended
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if self._allowance is not None:
            self._allowance.stop()
            await self._in_thread(self._allowance.close)
        await self._supervisor.aclose(at_once=at_once)
        if self._audit is not None:
            self._audit.close()
        if self._work is not None:
            work, self._work = self._work, None
            await self._in_thread(work.remove)

    async def put(self, files: Mapping[str, Any]) -> None:
        """Place files in the work directory: names to bytes, or to Paths to copy. Raises as :meth:`WorkDirectory.put`."""
        with self._using() as work:
            await self._in_thread(work.put, files)

    async def collect(self, patterns: str | Iterable[str], into: str | os.PathLike[str] | None = None) -> Collected:
        """The files that match, in memory or below the directory ``into``; what is left out is named with the reason."""
        with self._using() as work:
            return await self._in_thread(work.collect, patterns, self._caps, into)

    async def run(
        self,
        args: Command,
        *,
        files: Mapping[str, Any] | None = None,
        collect: str | Iterable[str] = (),
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        background: str | None = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **options: Any,
    ) -> Outcome:
        """Run one command to its end, record it, return its outcome. Both outputs are collected unless given elsewhere.

        Takes what :meth:`Supervisor.run` takes; ``cwd`` is relative to the work directory, ``env`` goes over the
        session's. Commands may overlap; each then sees the changes of the others. Raises :class:`ClosedError` when a limit of
        the session is spent, and OSError when the record cannot be written to the audit file; it is in :attr:`records` then.
        Cancelled, it kills the command, waits for its end and records it.
        """
        mode = text_mode(text, encoding, errors)
        kept = _background(background or self._background) == KEEP
        with self._using() as work:
            spec = self._spec(args, mode, cwd, env, options)
            if files:
                await self._in_thread(work.put, files)
            job, outcome = await self._run(spec, mode, kept)
            await job.wait()  # raises where text was asked for and the output is none
            return replace(outcome, collected=await self._in_thread(work.collect, collect, self._caps)) if collect else outcome

    async def _run(self, spec: JobSpec, mode: Text, kept: bool) -> tuple[Job, Outcome]:
        allowance = self._allowance
        assert allowance is not None
        if kept:
            allowance.check_keep(spec)
        before = await self._look()
        self._open()  # it may be closing by now
        hits, began_ns = allowance.hits(), time.time_ns()
        spec = replace(spec, limits=tighten(spec.limits, allowance.left()))  # raises when nothing is left
        job = self._supervisor._launch(spec, mode, allowance.root, allowance.keep if kept else None)
        allowance.began()
        self._number += 1
        number = self._number
        cancelled = await self._ended(job)
        assert job.outcome is not None
        outcome = blame(job.outcome, allowance.hits(), hits)
        cancelled = await self._record(number, began_ns, outcome, before) or cancelled
        if cancelled is not None:
            raise cancelled
        return job, outcome

    def _spec(self, args: Command, mode: Text, cwd: str, env: Mapping[str, str] | None, options: dict[str, Any]) -> JobSpec:
        refused = [name for name in ("sandbox", "user", "group", "policy") if name in options]
        if refused:
            raise ConfigError(*[f"{name}: is the session's, not a command's" for name in refused])
        sandbox, place = in_work(self._sandbox, self._open().path)
        if cwd:
            place = "/".join((place, *parse_name(cwd)))
        assert self._allowance is not None
        options["best_effort"] = self._allowance.best_effort.union(options.get("best_effort", ()))
        spec = make_spec(args, text=mode, env={**self.env, **(env or {})}, cwd=place, sandbox=sandbox, **self._who, **options)
        limits = tighten(tighten(self._command_limits, spec.limits), self._allowance.each)
        if limits.output_max is None:
            limits = replace(limits, output_max=DEFAULT_OUTPUT_MAX)
        taken = {name: COLLECT for name in ("stdout", "stderr") if getattr(spec, name) is None}
        return replace(spec, limits=limits, input=b"" if spec.input is None and spec.stdin is None else spec.input, **taken)

    async def _ended(self, job: Job) -> asyncio.CancelledError | None:
        """Wait until it is over and its cgroup given back, whatever happens to us; the cancellation that came meanwhile."""
        cancelled = None
        while not job.released:
            try:
                await self._supervisor.changed(job, lambda: job.released)
            except asyncio.CancelledError as request:
                cancelled = request
                job._give_up()
        return cancelled

    async def _record(self, number: int, began_ns: int, outcome: Outcome, before: Look) -> asyncio.CancelledError | None:
        looking = asyncio.ensure_future(self._look())
        cancelled = await finished(looking)
        after = looking.result()
        assert self._allowance is not None
        kept = self._allowance.ended(after, outcome)
        record = Record(
            number=number,
            began_ns=began_ns,
            outcome=replace(outcome, stdout=None, stderr=None),
            files=compare(before, after),
            files_complete=before.complete and after.complete,
            kept=kept,
            session_cpu_ns=self._allowance.cpu_ns(),
        )
        self.records.append(record)
        if self._audit is not None:
            self._audit.write(json.dumps(record.to_dict()))
        return cancelled

    async def _look(self) -> Look:
        assert self._work is not None
        return await self._in_thread(self._work.look, self._caps)

    @contextmanager
    def _using(self) -> Iterator[WorkDirectory]:
        """A call is under way: the session closes after it. Raises :class:`ClosedError`."""
        work = self._open()
        self._users += 1
        try:
            yield work
        finally:
            self._users -= 1
            if not self._users and self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _open(self) -> WorkDirectory:
        if self._work is None or self._closing:
            raise ClosedError("the session is not open: use it inside 'async with'")
        return self._work

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Cancelled, it waits for the thread before the cancellation goes on: nothing of ours works in a directory that is removed."""
        doing = asyncio.get_running_loop().run_in_executor(None, function, *args)
        cancelled = await finished(doing)
        if cancelled is not None:
            doing.exception()
            raise cancelled
        return doing.result()


def _background(given: str) -> str:
    if given not in (END, KEEP):
        raise ConfigError(f"background: {str(given)[:60]!r} is none of {END}, {KEEP}")
    return given
