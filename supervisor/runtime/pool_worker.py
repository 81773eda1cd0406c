# SPDX-License-Identifier: Apache-2.0
"""Worker: one warm process of a pool, as a job, and the socket over which it is given tasks."""

from __future__ import annotations

import asyncio
import os
from collections import deque

from supervisor.errors import BrokenError
from supervisor.kernel import native
from supervisor.worker.wire import LARGE_BYTES, WORD

PAGE_BYTES = os.sysconf("SC_PAGESIZE")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from mmap import mmap
    from typing import Protocol

    from supervisor.runtime.job import Job
    from supervisor.runtime.pool_line import Answer, Speech
    from supervisor.runtime.pool_task import Batch, Task

    class Foreman(Protocol):
        """Who hears what a worker says."""

        #: Where each worker's answers are read into, for a moment; slices are bytes.
        room: mmap

        def answered(self, worker: Worker, answers: list[Answer]) -> None: ...
        def fell_silent(self, worker: Worker) -> None: ...


class Worker:
    """Owns the pool's end of one worker's socket, the word it shares, and the tasks that it holds.

    Bytes are written at once where the socket takes them, else by the event loop; nothing here ever waits, so
    large tasks and large answers may cross.
    """

    def __init__(self, end: socket.socket, word: mmap | None, speech: Speech, foreman: Foreman) -> None:
        self._end: socket.socket | None = end
        self._room = foreman.room
        self._word = word
        self._speech = speech
        self._foreman = foreman
        self._loop = asyncio.get_running_loop()
        self._unwritten: deque[memoryview] = deque()
        self._dismissed = False
        self.job: Job | None = None
        self.born = asyncio.Event()  # its job is known
        self.ready = False
        self.leaving = False  # no more tasks: it is being replaced, or is ending
        self.held: dict[int, Task] = {}
        self.batch: Batch | None = None
        self.done = 0
        self.doomed = False  # to be killed as soon as it has started
        self.at_fault = False  # it is ended because it does not behave
        self.timer: asyncio.TimerHandle | None = None
        self.changed_limits: frozenset[str] = frozenset()
        self.started_ns = self.ready_ns = self.idle_since_ns = self.heard_ns = native.now_ns()
        self._loop.add_reader(end.fileno(), self._on_readable)

    @property
    def current(self) -> int:
        """The number of the task that it is at, or was last at. A program that speaks lines does not say: any it holds."""
        if self._word is None:
            return next(iter(self.held), 0)
        return int(WORD.unpack_from(self._word, 0)[0])

    def give(self, tasks: Iterable[Task]) -> None:
        """Send tasks, in one write."""
        pieces: list[bytes] = []
        for task in tasks:
            self.held[task.number] = task
            pieces += self._speech.task(task.number, task.content)
        self.write(pieces)

    def write(self, pieces: list[bytes]) -> None:
        """Write what the socket takes now and leave the rest to the loop; a dead worker's end is heard of otherwise."""
        if self._end is None or self._dismissed:
            return
        if len(pieces) > 1 and max(map(len, pieces)) < LARGE_BYTES:
            pieces = [b"".join(pieces)]
        for content in pieces:
            done = 0
            if not self._unwritten:
                try:
                    done = self._end.send(content)
                except BlockingIOError:
                    done = 0
                except OSError:
                    return
            if done < len(content):
                if not self._unwritten:
                    self._loop.add_writer(self._end.fileno(), self._on_writable)
                self._unwritten.append(memoryview(content)[done:])

    def _on_writable(self) -> None:
        assert self._end is not None
        try:
            while self._unwritten:
                piece = self._unwritten[0]
                done = self._end.send(piece)
                if done < len(piece):
                    self._unwritten[0] = piece[done:]
                    return
                self._unwritten.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._unwritten.clear()
        self._loop.remove_writer(self._end.fileno())

    def _on_readable(self) -> None:
        if self._read() is None:
            self._foreman.fell_silent(self)

    def _read(self) -> bool | None:
        """Take what has come: True, False when there is nothing now, None when there never will be."""
        if self._end is None:
            return None
        rest = self._speech.rest
        try:
            count = self._end.recv_into(self._room if rest is None else rest)
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if not count:
            self._loop.remove_reader(self._end.fileno())
            return None
        try:
            answers = self._speech.feed(self._room[:count]) if rest is None else self._speech.took(count)
        except BrokenError:
            self.at_fault = True
            self.release()
            return None
        if answers:
            self._foreman.answered(self, answers)
        return True

    def drain(self) -> None:
        """Its process has ended: take the answers that it had still written, and close the socket."""
        while self._read():
            pass
        self.release()

    def dismiss(self) -> None:
        """No more tasks: it reads the end of file and leaves; what it still says is heard."""
        self.leaving = self._dismissed = True
        if self._end is not None:
            if self._unwritten:
                self._loop.remove_writer(self._end.fileno())
                self._unwritten.clear()
            try:
                self._end.shutdown(1)  # SHUT_WR
            except OSError:
                pass

    def release(self) -> None:
        """Close the socket and give back the shared word; safe to call twice."""
        if self._end is not None:
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
            self._end.close()
            self._end = None
        self._unwritten.clear()

    def forget_word(self) -> None:
        """After the last look at :attr:`current`."""
        if self._word is not None:
            self._word.close()
            self._word = None

    def memory_bytes(self) -> int:
        """Resident memory of the main process now; 0 when it is gone."""
        pid = 0 if self.job is None else self.job.pid
        try:
            return int(native.read_path(f"/proc/{pid}/statm").split()[1]) * PAGE_BYTES if pid else 0
        except (OSError, IndexError):
            return 0
