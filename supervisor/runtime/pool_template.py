# SPDX-License-Identifier: Apache-2.0
"""Workers forked from a template that has imported what they need, instead of starting Python for each."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections import deque
from pickle import dumps

from supervisor.errors import ClosedError, JobFailed
from supervisor.kernel.native import STAGE_NUMBERS, STAGES
from supervisor.model.state import JobState
from supervisor.runtime.pool_launch import PLACE, PythonLauncher
from supervisor.runtime.pool_task import raised
from supervisor.runtime.request import make_spec
from supervisor.worker.wire import MESSAGE_BYTES, PROTOCOL, REPLY, TEMPLATE_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any, Final

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.job import Job
    from supervisor.runtime.pool_worker import Foreman, Worker
    from supervisor.runtime.supervisor import Supervisor

    Reply = tuple[int, int, int, int]

CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from supervisor.worker.template import main; main()"
#: How long a template that has closed its end may take to end.
LEAVING_SECONDS: Final = 5.0
#: The kernel's MAX_ERRNO.
ERRNO_MAX: Final = 4095
NO_TEMPLATE: Final = (-1, STAGE_NUMBERS["clone"], errno.ECHILD, 0)


def parse_reply(answer: bytes) -> Reply | None:
    """Pid, stage, errno and index; None for what answers no request."""
    if len(answer) != REPLY.size:
        return None
    pid, stage, number, index = REPLY.unpack(answer)
    sound = 0 <= stage < len(STAGES) and 0 <= number <= ERRNO_MAX and (pid > 0 or (pid == -1 and number > 0))
    return (pid, stage, number, index) if sound else None


class Template:
    """Owns the template's job and the socket over which it is asked to fork; requests are answered in their order."""

    def __init__(self, job: Job, control: socket.socket) -> None:
        self.job = job
        self._control = control
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[bytes] = self._loop.create_future()
        self.gone = False
        self._loop.add_reader(control.fileno(), self._on_readable)

    @classmethod
    async def start(cls, supervisor: Supervisor, options: Mapping[str, Any]) -> Template:
        """Start one, which is yet to :meth:`load`. Raises OSError, and what :meth:`Supervisor.start` raises."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            with theirs:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MESSAGE_BYTES)
                flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
                command = [sys.executable, *flags, "-c", CODE, PLACE, str(theirs.fileno())]
                job = await supervisor.start(command, pass_fds=(theirs.fileno(),), **{**options, "limits": None})
        except BaseException:
            ours.close()
            raise
        return cls(job, ours)

    async def load(self, preparation: bytes, preload: Sequence[str]) -> None:
        """Have it import everything. Raises what an import raised there, :class:`JobFailed` when it ended instead, or was closed.

        Unless it succeeds the template is ended.
        """
        try:
            try:
                self._control.send(preparation)
                self._control.send(dumps(list(preload), PROTOCOL))
                answer = await self._loaded
            except OSError:
                answer = b""
            if answer == TEMPLATE_READY:
                return
            self.close()
            outcome = await _end(self.job)
        except asyncio.CancelledError:
            self.close()
            await self.job.kill()
            raise
        raise raised(answer, False) if answer else JobFailed(outcome)

    def fork(self, block: bytes, fds: Sequence[int]) -> asyncio.Future[Reply]:
        """Ask for a worker that has ``fds``: its cgroup, its socket, its word; which are the caller's to close."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.gone:
            future.set_result(NO_TEMPLATE)
            return future
        try:
            socket.send_fds(self._control, [block], list(fds))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended: its end of file is still to be read, behind its last answers
        except OSError as error:
            future.set_result((-1, STAGE_NUMBERS["clone"], error.errno or errno.EIO, 0))
            return future
        self._waiting.append(future)
        return future

    def _on_readable(self) -> None:
        try:
            answer = self._control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        reply = parse_reply(answer)
        if answer and not self._loaded.done():
            self._loaded.set_result(answer)
        elif reply is None or not self._waiting:
            self.close()  # it has ended, or says what no template of ours says
        else:
            self._waiting.popleft().set_result(reply)

    def close(self) -> None:
        """It is wanted no more, or has ended; safe to call twice."""
        if not self.gone:
            self.gone = True
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            if not self._loaded.done():
                self._loaded.set_result(b"")
            for future in self._waiting:
                future.set_result(NO_TEMPLATE)
            self._waiting.clear()


async def _end(job: Job) -> Outcome:
    """The outcome of a template that has closed its end: its own, unless it stays for no reason."""
    try:
        async with asyncio.timeout(LEAVING_SECONDS):
            return await job.wait()
    except TimeoutError:
        return await job.kill()


class TemplateLauncher(PythonLauncher):
    """Starts Python workers by asking a template, which is started with the first of them."""

    def __init__(
        self,
        supervisor: Supervisor,
        options: Mapping[str, Any],
        limits: Mapping[str, Any],
        preparation: bytes,
        preload: Sequence[str],
        told: bytes | None,
    ) -> None:
        """``preparation`` is the template's; ``told`` that of each worker besides, when there is an initializer."""
        super().__init__(supervisor, options, limits, told)
        self._common = preparation
        self._template: Template | None = None
        self._starting = asyncio.Lock()
        self._closed = asyncio.Event()
        self._spec = make_spec([sys.executable, "-c", CODE], **{**self._options, "stdin": None})  # the template's own streams
        self._preload = preload

    def hire(self, foreman: Foreman) -> tuple[Worker, Coroutine[Any, Any, Job]]:
        """As any Python launcher; without an initializer the worker is ready as soon as it is born."""
        worker, starting = super().hire(foreman)
        worker.ready = self._preparation is None
        return worker, starting

    async def _start(self, theirs: socket.socket, word_fd: int) -> Job:
        try:
            with theirs:
                return await self._forked(theirs.fileno(), word_fd)
        finally:
            os.close(word_fd)

    async def _forked(self, fd: int, word_fd: int) -> Job:
        async with self._starting:
            if self._closed.is_set():
                raise ClosedError("the pool is closed")
            if self._template is None or self._template.gone:
                template = self._template = await Template.start(self._supervisor, self._options)
                if self._closed.is_set():
                    template.close()
                await template.load(self._common, self._preload)
        template = self._template
        job = await self._supervisor.start_forked(self._spec, lambda block, leaf_fd: template.fork(block, (leaf_fd, fd, word_fd)))
        if job.state == JobState.FAILED and template.gone:
            raise JobFailed(await _end(template.job))
        return job

    async def aclose(self) -> None:
        """End the template, one that is still importing too, and wait for its end."""
        self._closed.set()
        if self._template is not None:
            self._template.close()
            await self._template.job.kill()
