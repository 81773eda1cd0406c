# SPDX-License-Identifier: Apache-2.0
"""The loop of a Python worker: read a task, say that it begins, call, answer at once.

A task that has begun is named in a word of memory shared with the pool before its function is called, so
that whatever ends this process, the pool knows whose fault it may be, and that the tasks behind it were
never begun. Each answer is a write of its own: what is done is told, also when the next task kills us.
"""

from __future__ import annotations

import os
import select
import sys
from _pickle import dumps, loads  # pickle.py itself costs 5 ms: it imports re
from mmap import mmap

from supervisor.worker.wire import (
    HEADER,
    HEADER_BYTES,
    KIND_BITS,
    KIND_MASK,
    LARGE_BYTES,
    PREPARE,
    PROTOCOL,
    RAISED,
    READ_BYTES,
    READY,
    RESULT,
    TASK,
    UNSENT,
    WORD,
    WORD_BYTES,
    header,
    large_room,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

SIGINT: Final = 2
#: How often to look again before going to sleep, giving way each time: about 100 us. Waking a sleeper costs the pool 30 us.
LOOKS: Final = 60


class Wire:
    """Owns the worker's end of the socket: whole frames in, whole frames out, waiting for both."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        self._fd = fd
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(fd, select.POLLIN)
        self._writable.register(fd, select.POLLOUT)
        self._room = mmap(-1, READ_BYTES)  # os.read would map and unmap as much for each task; its slices are bytes
        self._held = b""
        self._at = 0

    def receive(self) -> tuple[int, int, bytes | memoryview]:
        """Kind, number and body of the next frame. Raises EOFError when the pool has closed its end."""
        held, at = self._held, self._at
        while len(held) - at < HEADER_BYTES:
            held, at = held[at:] + self._read(), 0
        word, number = HEADER.unpack_from(held, at)
        size, begin = word >> KIND_BITS, at + HEADER_BYTES
        end = begin + size
        if end <= len(held):
            self._held, self._at = held, end
            return word & KIND_MASK, number, held[begin:end]
        body = memoryview(large_room(size))
        body[: len(held) - begin] = held[begin:]
        self._fill(body[len(held) - begin :])
        self._held, self._at = b"", 0
        return word & KIND_MASK, number, body

    def _read(self) -> bytes:
        """What is there, or comes. The next task often comes soon after an answer, so it sleeps only after a while."""
        looks = 0
        while True:
            try:
                count = os.readv(self._fd, (self._room,))
            except BlockingIOError:
                looks += 1
                if looks < LOOKS:
                    os.sched_yield()
                else:
                    self._readable.poll()
                continue
            if not count:
                raise EOFError
            return self._room[:count]

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = os.readv(self._fd, [view])
            except BlockingIOError:
                self._readable.poll()
                continue
            if not count:
                raise EOFError
            view = view[count:]

    def send(self, kind: int, number: int, body: bytes) -> None:
        """Write one frame, all of it."""
        head = header(kind, number, len(body))
        if len(body) < LARGE_BYTES:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)

    def _write(self, content: bytes) -> None:
        view: bytes | memoryview = content
        while view:
            try:
                done = os.write(self._fd, view)
            except BlockingIOError:
                self._writable.poll()
                continue
            if done == len(view):
                return
            view = memoryview(view)[done:]


class Worker:
    """Owns this process: the wire, the shared word, and which function is being called."""

    def __init__(self, fd: int, word_fd: int) -> None:
        self._wire = Wire(fd)
        self._word = mmap(word_fd, WORD_BYTES)
        os.close(word_fd)
        self._calling = False

    def serve(self) -> None:
        """Take tasks until the pool closes its end."""
        catch_interrupts(self._interrupt)
        wire, word = self._wire, self._word
        while True:
            try:
                kind, number, body = wire.receive()
            except (EOFError, ConnectionError):
                return
            if kind == TASK:
                WORD.pack_into(word, 0, number)
                self._answer(number, *self._call(body))
            elif kind == PREPARE:
                self._answer(number, *self._prepare(body))

    def _interrupt(self, *_: object) -> None:
        """SIGINT is the pool's polite request to give up a task; between tasks it comes too late."""
        if self._calling:
            raise KeyboardInterrupt

    def _call(self, body: bytes | memoryview) -> tuple[int, Any]:
        try:
            function, args, kwargs = loads(body)
            self._calling = True
            try:
                return RESULT, function(*args, **kwargs)
            finally:
                self._calling = False
        except BaseException as error:
            self._calling = False
            return RAISED, error

    def _prepare(self, body: bytes | memoryview) -> tuple[int, Any]:
        from supervisor.worker.prepare import prepare

        try:
            prepare(loads(body))
        except BaseException as error:
            return RAISED, error
        return READY, None

    def _answer(self, number: int, kind: int, content: Any) -> None:
        if kind == RAISED:
            body = told(content)
        else:
            try:
                body = dumps(content, PROTOCOL)
            except BaseException as error:  # a __reduce__ of the task's may raise anything
                kind, body = UNSENT, told(error)
        self._wire.send(kind, number, body)


def told(error: BaseException) -> bytes:
    """The exception for the pool: its traceback without our own frames, a summary, and itself where it can travel."""
    from traceback import format_exception

    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        error.__traceback__ = error.__traceback__.tb_next
    text = "".join(format_exception(error))
    try:
        raw = dumps(error, PROTOCOL) if isinstance(error, Exception) else None
    except BaseException:
        raw = None
    return dumps((text, _summary(error), raw), PROTOCOL)


def _summary(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # its __str__ is the task's code too
        return f"{type(error).__name__}: (it cannot be shown as text)"


def catch_interrupts(handler: Callable[..., None]) -> None:
    """Set the handler of SIGINT; the module ``signal`` would load enum."""
    import _signal  # type: ignore[import-not-found, unused-ignore]

    _signal.signal(SIGINT, handler)


def main() -> None:
    """``python -c ... PLACE FD WORD_FD``: serve until the pool is gone, then end without the interpreter's tear-down."""
    fd, word_fd = int(sys.argv[2]), int(sys.argv[3])
    try:
        Worker(fd, word_fd).serve()
    finally:
        finish()


def finish() -> None:
    """Run what was registered for the end, write out what is buffered, and leave."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(0)
