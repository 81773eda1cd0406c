# SPDX-License-Identifier: Apache-2.0
"""Job: the handle of one started command inside an asynchronous supervisor."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager

from supervisor.errors import ClosedError, ConfigError
from supervisor.kernel import native
from supervisor.model.events import LimitsChanged
from supervisor.model.spec import grace_ns
from supervisor.model.state import JobState
from supervisor.model.value import replace
from supervisor.runtime.event_log import DEFAULT_MAX_BYTES, DEFAULT_MAX_EVENTS
from supervisor.runtime.pipe_reader import PipeReader
from supervisor.runtime.pipe_writer import PipeWriter
from supervisor.runtime.telling import Telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Any

    from supervisor.model.limits import Limits
    from supervisor.model.outcome import Outcome
    from supervisor.model.relimit import Relimit
    from supervisor.runtime.event_log import EventReader
    from supervisor.runtime.execution import Execution
    from supervisor.runtime.request import Text
    from supervisor.runtime.supervisor import Supervisor
    from supervisor.runtime.waiter import Waiter


class Job:
    """One run of one command; made by :meth:`Supervisor.start`, alive until its outcome is known.

    ``stdin``, ``stdout``, ``stderr``: our ends of the pipes that were asked for with PIPE, else None; with ``pty`` the
    first two are the other side of the job's terminal.
    """

    __slots__ = (
        "_changes",
        "_execution",
        "_held",
        "_on_terminal",
        "_parting",
        "_supervisor",
        "_telling",
        "_text",
        "_text_error",
        "_timer",
        "_timer_ns",
        "_waiters",
        "ended",
        "released",
        "stderr",
        "stdin",
        "stdout",
    )

    def __init__(self, supervisor: Supervisor, execution: Execution, text: Text) -> None:
        self._supervisor = supervisor
        self._execution = execution
        self._text = text
        self._text_error: UnicodeError | None = None
        self._waiters: dict[Waiter, None] | None = None  # in order
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._changes: asyncio.Lock | None = None
        self._held = 0  # calls under way on another thread that use the tree's descriptors
        self._parting = False  # it is over and could be released, but for its helper
        self._telling = execution.observer = Telling(supervisor.log, execution)
        self.ended = False  # its outcome is told
        self.released = False  # and its descriptors and its cgroup are given back
        ours = execution.streams.ours
        self._on_terminal = execution.spec.controlling_terminal is not None
        self.stdin = PipeWriter(ours.pop(0), b"\x04" if self._on_terminal else b"") if 0 in ours else None
        self.stdout = self._reader(1)
        self.stderr = self._reader(2)

    def _reader(self, stream: int) -> PipeReader | None:
        streams = self._execution.streams
        if stream not in streams.ours:
            return None
        account = streams.piped(stream)
        if account is None:  # native code has counted it
            reader = PipeReader(streams.ours.pop(stream), lambda size: None)
            streams.copy_to(stream, reader.follow)
            return reader
        reader = PipeReader(streams.ours.pop(stream), lambda size: self._read(stream, size), hangs_up=self._on_terminal)
        account.unread = lambda: reader.unread_bytes
        return reader

    def _read(self, stream: int, size: int) -> None:
        """The caller has read so much: the cap counts it."""
        execution = self._execution
        account = execution.streams.piped(stream)
        assert account is not None
        account.read(size)
        cap = execution.plan.limits.output_max
        if cap is None or execution.outcome is not None or "output_max" in execution.causes:
            return
        if execution.streams.count(1) + execution.streams.count(2) > cap:
            execution.reached("output_max")
            self._settle()

    @property
    def id(self) -> int:
        """Number of the job within its supervisor, never used again."""
        return self._execution.token

    @property
    def pid(self) -> int:
        """Process id of the main process; 0 when it never started, or was over before it could be read (strict sandboxes)."""
        return self._execution.pid

    @property
    def state(self) -> str:
        """One of ``starting running paused stopping terminated failed``."""
        return self._execution.state

    @property
    def outcome(self) -> Outcome | None:
        """The outcome once the job is over, else None."""
        return self._execution.outcome if self.ended else None

    @property
    def paused_ns(self) -> int:
        """How long it has been paused in all, up to now; nanoseconds."""
        return self._execution.paused_ns

    @property
    def limits(self) -> Limits:
        """The limits as they hold now, shares resolved to amounts."""
        return self._execution.plan.limits

    @property
    def enforcement(self) -> Mapping[str, str]:
        """Who enforces each limit, and what holds the tree."""
        return self._execution.plan.enforcement

    def events(self, *, output: bool = True, max_events: int = DEFAULT_MAX_EVENTS, max_bytes: int = DEFAULT_MAX_BYTES) -> EventReader:
        """The job's events, to be read by ``async for``: first how it stands now (``replayed``), then what happens.

        Ends after ``Terminated``. ``output``: collected streams come as ``Output`` events too. A reader who falls
        more than ``max_events`` or ``max_bytes`` of output behind loses the oldest and reads an ``Overflow``.
        """
        ended = self._execution.outcome if self.ended else None
        snapshot = self._telling.snapshot(output, ended)
        log = self._supervisor.log
        return log.add(self.id, snapshot, max_events=max_events, max_bytes=max_bytes, output=output, over=ended is not None)

    async def set_limits(self, limits: Limits | None = None, /, **given: Any) -> Mapping[str, str]:
        """Change limits while the job runs or is paused: ``set_limits(memory_max="1G")``; ``"infinity"`` lifts one.

        Returns who enforces each changed limit. All or nothing: written, read back, and taken back when a step
        fails. Time and output already used count, so a limit below them ends the job at once; memory above a
        lower limit is reclaimed first, which may take a while. Raises :class:`ConfigError` for what makes no
        sense, :class:`UnsupportedError` for what cannot be enforced or not on a running job,
        :class:`CgroupError` when the kernel refuses, OSError without descriptors, :class:`ClosedError` when the job is ending or over.
        Cancelled, it still finishes the change first.
        """
        from supervisor.runtime.set_limits import set_limits

        return await set_limits(self, limits, given)

    async def wait(self) -> Outcome:
        """Wait for the end of the whole tree and return the outcome.

        Any number of tasks may wait. Cancelling a waiter leaves the job alone. Raises UnicodeDecodeError, as subprocess
        does, when text was asked for and the output is none; :attr:`outcome` then holds it as bytes.
        """
        if not self.ended:
            await self._supervisor.changed(self, lambda: self.ended)
        if self._text_error is not None:
            raise self._text_error
        outcome = self._execution.outcome
        assert outcome is not None
        return outcome

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Feed ``input``, read both pipes to their ends and wait for the job; what is no pipe comes as None."""
        if self.stdin is not None:
            if input:
                self.stdin.write(input)
            self.stdin.close()
        stdout, stderr = await asyncio.gather(*(_whole(reader) for reader in (self.stdout, self.stderr)))
        await self.wait()
        return stdout, stderr

    def set_window_size(self, rows: int, columns: int) -> None:
        """Change the size of the job's terminal; the job is told (SIGWINCH).

        Raises :class:`ConfigError` without ``pty`` and for no size, :class:`ClosedError` when ``stdout`` is closed.
        """
        from supervisor.kernel.pty import set_window_size

        if not self._on_terminal or self.stdout is None:
            raise ConfigError("pty: the job has no terminal of its own; start it with pty=True")
        if self.stdout.fileno() < 0:
            raise ClosedError("the terminal's other side is closed")
        set_window_size(self.stdout.fileno(), rows, columns)

    async def pause(self) -> None:
        """Stop the whole tree (cgroup.freeze, or SIGSTOP without a freezer); its clock stands still.

        Pausing a paused or finished job changes nothing. Returns when every task has stopped, or after a second with one that
        the kernel cannot stop yet. Raises OSError without descriptors, and the job runs on then. Cancelled, it still finishes first.
        """
        self._supervisor.check_loop()
        still_stopping = self._execution.pause()
        self._rearm()
        if still_stopping is not None:
            from supervisor.runtime.finished import finished

            cancelled: asyncio.CancelledError | None = None
            with self._tree_kept():
                try:
                    waiting = asyncio.get_running_loop().run_in_executor(None, still_stopping)
                    cancelled = await finished(waiting)
                    waiting.result()
                except Exception as error:  # no descriptor, or no thread, to wait with
                    self._execution.unpause()
                    self._rearm()
                    if cancelled is not None:
                        raise cancelled from error
                    raise
            self._execution.paused()
            if cancelled is not None:
                raise cancelled

    async def resume(self) -> None:
        """Let a paused tree run on; without effect on one that is not paused."""
        self._supervisor.check_loop()
        self._execution.resume()
        self._rearm()

    async def send_signal(self, number: int) -> bool:
        """Send a signal to the main process; False when it has ended."""
        self._supervisor.check_loop()
        return self._execution.signal(number)

    async def kill(self) -> Outcome:
        """SIGKILL the whole tree and wait for the outcome (verdict ``cancelled``)."""
        return await self._stop(0)

    async def terminate(self, grace: Any = None, *, signal: int | None = None) -> Outcome:
        """Ask the job to end, kill its tree after ``grace`` (the specification's by default), wait for the outcome.

        ``signal``: sent instead of the specification's ``kill_signal``. A paused job is resumed so that it can react.
        Cancelling the call does not take the request back. Raises :class:`ConfigError` for what is no signal, before anything is done.
        """
        if signal is not None and not (isinstance(signal, int) and 1 <= signal <= 64):
            raise ConfigError(f"signal: must lie between 1 and 64, not {signal!r}")
        return await self._stop(self._execution.spec.kill_grace_ns if grace is None else grace_ns(grace), signal)

    def owns(self, pid: int) -> bool:
        """The process is alive and of this job's tree, now."""
        from supervisor.kernel.members import is_member

        tree = self._execution.tree
        return tree is not None and is_member(tree, pid)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Its limits are being changed: one change at a time, and its tree's descriptors stay open meanwhile."""
        if self._changes is None:
            self._changes = asyncio.Lock()
        with self._tree_kept():
            async with self._changes:
                yield

    @contextmanager
    def _tree_kept(self) -> Iterator[None]:
        """Its tree's descriptors stay open meanwhile, also when it ends."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self.ended and not self._held:
                self._release()

    async def settled(self) -> None:
        """Until the job has started, or has failed to."""
        await self._supervisor.changed(self, lambda: self.state != JobState.STARTING)

    def limits_changed(self, change: Relimit) -> bool:
        """Its limits have been changed on the tree: from now on they count, unless it has ended meanwhile (False)."""
        if self.ended:
            return False
        self._execution.relimit(change)
        self._supervisor.log.emit(LimitsChanged, self.id, limits=change.changed, enforcement=change.enforcement)
        self._settle()
        return True

    def change_over(self) -> None:
        """The limits are changed or refused: an end that came meanwhile is told now."""
        self._execution.change_over()
        self._settle()

    async def _stop(self, wait_ns: int, signal: int | None = None) -> Outcome:
        self._supervisor.check_loop()
        self._execution.stop(wait_ns, signal=signal)
        self._settle()
        return await self.wait()

    def _give_up(self) -> None:
        """Whoever wanted it was cancelled: kill it, again and again as long as that fails."""
        self._execution.stop(0)
        self._settle()

    def _settle(self) -> None:
        """After anything happened: end the waiting, or set the timer for what is due next."""
        execution = self._execution
        if self.ended:
            self._part()
        elif execution.outcome is not None and not execution.flushing:
            self._end()
        else:
            self._rearm()

    def _part(self) -> None:
        """It is over: what it holds is given back once its helper is gone too."""
        if not self._parting:
            return
        self._rearm()
        if self._execution.parted:
            self._parting = False
            self._supervisor.releases.add(self._release)

    def _end(self) -> None:
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        execution = self._execution
        if self._text.encoding is not None and execution.outcome is not None:
            decode = self._text.decode
            outcome = execution.outcome
            try:
                execution.outcome = replace(outcome, stdout=decode(outcome.stdout), stderr=decode(outcome.stderr))
            except UnicodeError as error:
                self._text_error = error  # for whoever waits: the job itself is over like any other
        assert execution.outcome is not None
        self._telling.ended(execution.outcome)
        self._wake()
        self._supervisor.releases.add(self._release)

    def _release(self) -> None:
        if self._held:
            return  # whoever holds it calls again
        self._rearm()  # who paused or resumed it after its end has armed the timer again
        if not self._execution.parted:
            self._parting = True
            return
        self._execution.release()
        self._execution.observer = None  # they hold each other, and the job's input and output are not left to a collection
        if self.stdin is not None:
            self.stdin.let_go()
        if self.stdout is not None:
            self.stdout.let_go()
        self.released = True
        self._supervisor.forget(self)
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        if waiters:
            self._supervisor.wake(waiters)

    def _rearm(self) -> None:
        due = self._execution.deadline_ns
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if self._timer_ns == due:
                return
            self._timer.cancel()
        self._timer_ns = due
        delay = max(0, due - native.now_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._execution.on_time(native.now_ns())
        self._settle()


async def _whole(reader: PipeReader | None) -> bytes | None:
    return None if reader is None else await reader.read()
