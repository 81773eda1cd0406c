# SPDX-License-Identifier: Apache-2.0
"""How a worker of a pool is started: a socket and a shared word, and a job that is given their other ends."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from mmap import mmap
from pickle import dumps

from supervisor.model.limit_kinds import LIMITS
from supervisor.model.spec import DEVNULL
from supervisor.runtime.pool_line import Frames, Lines
from supervisor.runtime.pool_worker import Worker
from supervisor.worker.wire import PREPARE, PROTOCOL, WORD_BYTES, header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any, Final

    from supervisor.runtime.job import Job
    from supervisor.runtime.pool_worker import Foreman
    from supervisor.runtime.supervisor import Supervisor

PLACE: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from supervisor.worker.serve import main; main()"
#: Room for many small tasks and answers, so that neither side waits for the other.
SOCKET_BYTES: Final = 1 << 20


class PythonLauncher:
    """Starts Python workers: each is told this process's module path and main program, and what to prepare."""

    def __init__(self, supervisor: Supervisor, options: Mapping[str, Any], limits: Mapping[str, Any], preparation: bytes | None) -> None:
        """``preparation``: what each worker is told first, or None."""
        self._supervisor = supervisor
        self._options = {"stdin": DEVNULL, "process_group": 0, **options}  # a terminal's Ctrl-C is the pool's to hear
        self._preparation = preparation
        self.limits = limits

    def hire(self, foreman: Foreman) -> tuple[Worker, Coroutine[Any, Any, Job]]:
        """A worker, and its start, which is yet to be awaited. Raises OSError; nothing is left open then."""
        ours, theirs = _pair()
        word_fd = -1
        try:
            word_fd = os.memfd_create("ringfence-word", os.MFD_CLOEXEC)
            os.ftruncate(word_fd, WORD_BYTES)
            worker = Worker(ours, mmap(word_fd, WORD_BYTES), Frames(), foreman)
        except BaseException:
            ours.close()
            theirs.close()
            if word_fd >= 0:
                os.close(word_fd)
            raise
        if self._preparation is not None:
            worker.write([header(PREPARE, 0, len(self._preparation)), self._preparation])
        return worker, self._start(theirs, word_fd)

    async def aclose(self) -> None:
        """Nothing is left of it besides the workers."""

    async def _start(self, theirs: socket.socket, word_fd: int) -> Job:
        try:
            with theirs:
                fds = (theirs.fileno(), word_fd)
                flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
                command = [sys.executable, *flags, "-c", CODE, PLACE, *map(str, fds)]
                return await self._supervisor.start(command, pass_fds=fds, **self._options)
        finally:
            os.close(word_fd)


class CommandLauncher:
    """Starts workers of any program that answers each line of its standard input with one line."""

    def __init__(self, supervisor: Supervisor, options: Mapping[str, Any], limits: Mapping[str, Any], command: Sequence[str]) -> None:
        self._supervisor = supervisor
        self._options = {"process_group": 0, **options}
        self._command = list(command)
        self.limits = limits

    def hire(self, foreman: Foreman) -> tuple[Worker, Coroutine[Any, Any, Job]]:
        """A worker, and its start, which is yet to be awaited. Raises OSError; nothing is left open then."""
        ours, theirs = _pair()
        worker = Worker(ours, None, Lines(), foreman)
        return worker, self._start(worker, theirs, foreman)

    async def aclose(self) -> None:
        """Nothing is left of it besides the workers."""

    async def _start(self, worker: Worker, theirs: socket.socket, foreman: Foreman) -> Job:
        with theirs:
            job = await self._supervisor.start(self._command, stdin=theirs.fileno(), stdout=theirs.fileno(), **self._options)
        if job.state == "running":
            worker.job = job
            foreman.answered(worker, [READY_TO_READ])
        return job


READY_TO_READ: Final = (3, 0, b"")


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    return ours, theirs


def ungiven(name: str) -> str:
    """A limit as a worker has it that was given none: an rlimit is inherited from this process, of others there is none."""
    number = LIMITS[name].rlimit
    if number is None:
        return "infinity"
    return ":".join(["infinity" if amount == resource.RLIM_INFINITY else str(amount) for amount in resource.getrlimit(number)])


def preparation(preload: Sequence[str], initializer: bytes | None) -> bytes:
    """What a Python worker takes over: see ``supervisor/worker/prepare.py``."""
    path = [os.getcwd() if entry == "" else entry for entry in sys.path]
    return dumps({"path": path, "argv": list(sys.argv), "main": _main(), "preload": list(preload), "initializer": initializer}, PROTOCOL)


def _main() -> tuple[str, str]:
    """The main program, as a module's name or as a path; both empty in an interactive session."""
    main = sys.modules["__main__"]
    sys.modules.setdefault("__mp_main__", main)  # what workers return may be of classes that they know by that name
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name), ""
    path = getattr(main, "__file__", None)
    return "", os.path.abspath(path) if path is not None else ""
