# SPDX-License-Identifier: Apache-2.0
"""PipeReader: what a job writes into a pipe, read by the caller at the caller's pace."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os

from supervisor.errors import BusyError, ConfigError
from supervisor.runtime.pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

#: One read takes at most this, and a pipe that was once found full is made as large (pipe(7), F_SETPIPE_SZ).
BATCH_BYTES: Final = 1 << 20
FULL_BYTES: Final = 1 << 16
DEFAULT_LIMIT_BYTES: Final = 1 << 16


class PipeReader:
    """Owns the reading end of one pipe, or one side of a terminal. Nothing is read ahead: a job that writes more than is read waits.

    The methods are those of ``asyncio.StreamReader``, and raise what they raise: ``IncompleteReadError``
    at an early end, ``LimitOverrunError`` for a line beyond ``limit`` bytes. One task reads at a time
    (:class:`BusyError`). Cancelling a read loses no byte. What the job wrote before its end stays readable
    after it; :meth:`close` lets it go.
    """

    def __init__(self, fd: int, counted: Callable[[int], None], limit: int = DEFAULT_LIMIT_BYTES, *, hangs_up: bool = False) -> None:
        """``hangs_up``: closing a terminal sends SIGHUP to who runs on it, so its end alone does not close it before :meth:`let_go`."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._counted = counted  # is told of every byte read, once
        self._limit = limit
        self._hangs_up = hangs_up
        self._held = bytearray()
        self._ended = False
        self._large = False
        self._handed = False
        self._rest = b""
        self._pace = Pace()
        self._waiter: asyncio.Future[None] | None = None

    def fileno(self) -> int:
        """The descriptor, so that another job can be started with ``stdin=job.stdout``; -1 once closed."""
        return self._fd

    def hand_over(self) -> int:
        """The descriptor for another process, which expects reads that wait; raises :class:`ConfigError` once bytes were taken."""
        if self._held or self._rest or self._waiter is not None or self._fd < 0:
            raise ConfigError("stdin: this stream is closed, or being read, or bytes of it were read and kept here already")
        os.set_blocking(self._fd, True)
        self._handed = True
        return self._fd

    def take_back(self) -> None:
        """The other process was not started, or was ended at once: it is read here again."""
        if self._fd >= 0:
            os.set_blocking(self._fd, False)
        self._handed = False

    def follow(self, rest: Callable[[], bytes]) -> None:
        """What ``rest()`` returns comes after the pipe's end; not asked when somebody else reads the pipe by now."""
        if self._fd >= 0 and not self._handed:
            self._rest = rest()

    @property
    def unread_bytes(self) -> int:
        """What lies in the pipe at this moment."""
        if self._fd < 0:
            return 0
        import array
        import termios

        room = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, room)
        return room[0] + len(self._rest)

    def at_eof(self) -> bool:
        """Everything was read and the pipe has ended."""
        return self._ended and not self._held

    def close(self) -> None:
        """Read no more; a job that writes on gets SIGPIPE. Whoever waits reads the end."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if self._waiter is not None:
                self._waiter.get_loop().remove_reader(fd)
                self._wake()
            os.close(fd)
        self._ended = True

    def let_go(self) -> None:
        """The job is over: nobody is left to be hung up on."""
        self._hangs_up = False
        if self._ended:
            self.close()

    def _end(self) -> None:
        self._ended = True
        if not self._hangs_up:
            self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    async def _more(self, most: int = BATCH_BYTES) -> bytes:
        """The next bytes of the pipe, at least one unless it has ended."""
        while not self._ended:
            if await self._gave_way():
                continue
            try:
                data = os.read(self._fd, most)
            except BlockingIOError:
                await self._readable()
                continue
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                data = self._last_of_terminal(most)
            if len(data) >= FULL_BYTES and not self._large:
                self._enlarge()
            if not data and self._rest:
                data, self._rest = self._rest[:most], self._rest[most:]
            if data:
                self._counted(len(data))
                return data
            self._end()
        return b""

    def _last_of_terminal(self, most: int) -> bytes:
        """After EIO, which says that nobody has the other side of a terminal open any more (pty(7)): what is there all the same.

        The kernel looks for input first and for the other side then (n_tty_read() in drivers/tty/n_tty.c): what was written in
        between, right before the last close, is found at the next look.
        """
        try:
            return os.read(self._fd, most)
        except OSError:
            return b""

    async def _gave_way(self) -> bool:
        """Let the event loop run where it has not for a while: True when it did, and this may be closed now. Raises :class:`BusyError`."""
        self._check_free()
        if not self._pace.is_over():
            return False
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        loop.call_soon(self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def _enlarge(self) -> None:
        self._large = True
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, BATCH_BYTES)
        except OSError:
            return  # the user's pipes are at their limit, or it is no pipe: it works as it is

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        fd, self._waiter = self._fd, loop.create_future()
        loop.add_reader(fd, self._wake)
        try:
            await self._waiter
            self._pace.waited()
        finally:
            self._waiter = None
            if self._fd == fd:
                loop.remove_reader(fd)

    def _check_free(self) -> None:
        if self._waiter is not None:
            raise BusyError("another task is reading this stream")

    def _taken(self, size: int) -> bytes:
        self._check_free()  # what is held is the beginning of what that task reads
        data = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        return data

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes as soon as there are any, everything to the end for -1; empty at the end."""
        if n == 0:
            return b""
        if n > 0:
            return self._taken(n) if self._held else await self._more(min(n, BATCH_BYTES))
        parts = [self._taken(len(self._held))]
        while data := await self._hold_back(parts):
            parts.append(data)
        return b"".join(parts)

    async def _hold_back(self, parts: list[bytes]) -> bytes:
        """The next bytes; what is raised instead, such as a cancellation, puts what was read before them back."""
        try:
            return await self._more()
        except BaseException:
            self._held[:0] = b"".join(parts)
            raise

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` from its start without another copy; the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._held:
            size = min(len(view), len(self._held))
            view[:size] = self._taken(size)
            return size
        while not self._ended:
            if await self._gave_way():
                continue
            try:
                size = os.readv(self._fd, [view])
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                last = self._last_of_terminal(len(view))
                size = len(last)
                view[:size] = last
            if not size and self._rest:
                size = min(len(view), len(self._rest))
                view[:size], self._rest = self._rest[:size], self._rest[size:]
            if size >= FULL_BYTES and not self._large:
                self._enlarge()
            if size:
                self._counted(size)
                return size
            self._end()
        return 0

    async def readexactly(self, n: int) -> bytes:
        """Exactly ``n`` bytes, or ``asyncio.IncompleteReadError``."""
        while len(self._held) < n:
            data = await self._more()
            if not data:
                raise asyncio.IncompleteReadError(self._taken(len(self._held)), n)
            self._held += data
        return self._taken(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Up to and with the separator; ``asyncio.LimitOverrunError`` beyond the limit, the bytes kept."""
        start = 0
        while True:
            found = self._held.find(separator, start)
            if 0 <= found <= self._limit:
                return self._taken(found + len(separator))
            start = max(0, len(self._held) - len(separator) + 1)
            if found >= 0 or len(self._held) > self._limit:
                raise asyncio.LimitOverrunError(f"no separator within {self._limit} bytes", start)
            data = await self._more(FULL_BYTES)  # no more than is soon gone through
            if not data:
                raise asyncio.IncompleteReadError(self._taken(len(self._held)), None)
            self._held += data

    async def readline(self) -> bytes:
        """A line with its end; the last may lack it, and after it come empty ones."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            return end.partial

    async def readlines(self) -> list[bytes]:
        """A batch: every whole line that is there, at least one unless the stream has ended.

        Lines may be as long as they like; they are held until their end comes.
        """
        while True:
            end = self._held.rfind(b"\n")
            if end >= 0:
                return _lines(self._taken(end + 1))
            data = await self._more()
            if not data:
                rest = self._taken(len(self._held))
                return [rest] if rest else []
            self._held += data

    def __aiter__(self) -> PipeReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


def _lines(text: bytes) -> list[bytes]:
    """Lines end at ``\\n`` alone: a ``\\r`` belongs to its line."""
    return [line + b"\n" for line in text[:-1].split(b"\n")]
