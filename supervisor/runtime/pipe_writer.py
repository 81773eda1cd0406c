# SPDX-License-Identifier: Apache-2.0
"""PipeWriter: a job's standard input, written by the caller."""

from __future__ import annotations

import asyncio
import errno
import os

from supervisor.errors import ClosedError
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

HIGH_WATER_BYTES: Final = 1 << 16


class PipeWriter:
    """Owns the writing end of one pipe, or one side of a terminal.

    As ``asyncio.StreamWriter``: :meth:`write` never blocks and holds what the pipe does not take,
    ``await drain()`` waits while more than 64 KiB are held, :meth:`close` ends the job's input once all is
    written. A job that reads no more makes the next ``drain`` raise ``BrokenPipeError``.
    """

    def __init__(self, fd: int, end: bytes = b"") -> None:
        """``end``: a terminal's character for the end of input, which means so at the start of a line."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._held = bytearray()
        self._closing = False
        self._end = end
        self._inside_line = False
        self._watched: asyncio.AbstractEventLoop | None = None
        self._broken: BrokenPipeError | None = None
        self._waiting = Turns()

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._fd

    def is_closing(self) -> bool:
        """Nothing can be written any more."""
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``, now or as soon as the job reads; raises :class:`ClosedError` after :meth:`close`."""
        self.writelines([data])

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces by one system call (writev(2))."""
        if self._closing:
            raise ClosedError("the job's standard input is closed")
        pieces = [memoryview(part).cast("B") for part in parts if part]
        if self._broken is not None or not pieces:
            return  # drain says so
        self._inside_line = pieces[-1][-1] != 10
        if not self._held:
            pieces = self._unsent(pieces)
        for piece in pieces:
            self._held += piece
        if self._held and self._watched is None:
            self._watched = asyncio.get_running_loop()
            self._watched.add_writer(self._fd, self._push)

    def _unsent(self, pieces: list[memoryview]) -> list[memoryview]:
        """What the pipe did not take at once."""
        while pieces:
            try:
                sent = os.writev(self._fd, pieces[:1024])
            except BlockingIOError:
                return pieces
            except OSError as error:
                self._break(error)
                return []
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = pieces[0][sent:]
        return []

    def _push(self) -> None:
        try:
            sent = os.write(self._fd, memoryview(self._held)[: 1 << 20])
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        del self._held[:sent]
        if len(self._held) <= HIGH_WATER_BYTES:
            self._waiting.wake_all()
        if not self._held:
            self._unwatch()
            if self._closing:
                self._shut()

    def _break(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal whose other side is gone
            raise error
        self._broken = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._held.clear()
        self._shut()

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.remove_writer(self._fd)
            self._watched = None

    async def drain(self) -> None:
        """Wait until the pipe has taken all but 64 KiB; raises ``BrokenPipeError`` when the job reads no more."""
        await self._below(HIGH_WATER_BYTES)

    async def _below(self, most: int) -> None:
        while len(self._held) > most and self._broken is None:
            await self._waiting.wait()
        if self._broken is not None and not self._closing:
            raise BrokenPipeError(self._broken.errno, self._broken.strerror)

    def close(self) -> None:
        """The job reads its end of file after what is held; safe to call twice."""
        if self._end and not self._closing:
            self.write(self._end * (2 if self._inside_line else 1))
        self._closing = True
        if not self._held:
            self._shut()

    async def wait_closed(self) -> None:
        """Until everything held has gone out, or cannot."""
        while self._fd >= 0:
            await self._waiting.wait()

    def let_go(self) -> None:
        """The job is over: nobody is left to read what is held, and what is written from now on."""
        if self._fd >= 0:
            self._break(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def abort(self) -> None:
        """Close at once; what is held is dropped."""
        self._closing = True
        self._held.clear()
        self._shut()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    def _shut(self) -> None:
        if self._fd >= 0:
            self._unwatch()
            fd, self._fd = self._fd, -1
            os.close(fd)
        self._waiting.wake_all()
