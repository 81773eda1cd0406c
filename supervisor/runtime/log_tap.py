# SPDX-License-Identifier: Apache-2.0
"""LogTap: output of a service on its way to where it goes, read for a line that matches."""

from __future__ import annotations

import asyncio
import os
import re
import select
import stat

from supervisor.kernel.streams import open_pipe
from supervisor.model.spec import DEVNULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

CHUNK_BYTES: Final = 65536
#: Of a line that does not end, this much is kept for the pattern.
LINE_MAX_BYTES: Final = 65536
#: What a pipe that polls writable takes without blocking (PIPE_BUF of pipe(7)).
PIECE_BYTES: Final = 4096
DRAINED_CHUNKS_MAX: Final = 64


class LogTap:
    """Owns a pipe: the service writes into ``end``, what comes out goes on to ``target`` unchanged.

    A slow target holds the service up, as it would without us, and never this process. A target that fails
    (disk full, reader gone) drops the rest; ``error`` says why.
    """

    def __init__(self, pattern: str, target: int, on_match: Callable[[], None]) -> None:
        """``target``: a descriptor, or DEVNULL. Raises OSError; nothing is left open then."""
        self._pattern: re.Pattern[bytes] | None = re.compile(pattern.encode())
        self._on_match = on_match
        self._tail = b""
        self._waiting = b""  # for the target
        self.error = ""
        self._target = -1 if target == DEVNULL else os.dup(target)  # a number of our own: an event loop watches each only once
        try:
            self._at_once = self._target < 0 or stat.S_ISREG(os.fstat(self._target).st_mode)
            self._fd, self.end = open_pipe()
        except OSError:
            self._close_target()
            raise
        os.set_blocking(self._fd, False)

    def start(self) -> None:
        """The service holds its end: give ours back and begin to read."""
        self.release()
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def release(self) -> None:
        """Give back our copy of the service's end."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    def _on_readable(self) -> None:
        if not self._read():
            asyncio.get_running_loop().remove_reader(self._fd)

    def _read(self) -> bool:
        """Take one chunk; False at the end, and while the target is slow."""
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        self._look(chunk)
        self._waiting += chunk
        return self._push()

    def _look(self, chunk: bytes) -> None:
        if self._pattern is None:
            return
        *lines, tail = (self._tail + chunk).split(b"\n")
        self._tail = tail[-LINE_MAX_BYTES:]
        if any(self._pattern.search(line) for line in lines):
            self._pattern, self._tail = None, b""
            self._on_match()

    def _push(self) -> bool:
        """Write what waits; False when the target must be waited for."""
        while self._waiting:
            if self._target < 0 or self.error:
                self._waiting = b""
                break
            if not self._at_once and not self._takes():
                asyncio.get_running_loop().add_writer(self._target, self._on_writable)
                return False
            try:
                written = os.write(self._target, self._waiting if self._at_once else self._waiting[:PIECE_BYTES])
            except BlockingIOError:
                continue
            except OSError as error:
                self.error = f"output is lost: {error.strerror}"
                continue
            self._waiting = self._waiting[written:]
        return True

    def _takes(self) -> bool:
        poller = select.poll()
        poller.register(self._target, select.POLLOUT)
        return bool(poller.poll(0))

    def _on_writable(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_writer(self._target)
        if self._push():
            loop.add_reader(self._fd, self._on_readable)

    def close(self) -> None:
        """Pass on what is left, as far as the target takes it at once, and close everything; safe to call twice."""
        self.release()
        loop = asyncio.get_running_loop()
        if self._fd >= 0:
            loop.remove_reader(self._fd)
            if self._target >= 0:
                loop.remove_writer(self._target)
            self._drain()
            os.close(self._fd)
            self._fd = -1
        self._close_target()

    def _drain(self) -> None:
        for _ in range(DRAINED_CHUNKS_MAX):  # more than a pipe holds; a process outside may still be writing
            if not self._push():
                asyncio.get_running_loop().remove_writer(self._target)
                self.error = "output is lost: where it goes took nothing at the end"
                return
            try:
                self._waiting = os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                return
            if not self._waiting:
                return
            self._look(self._waiting)

    def _close_target(self) -> None:
        if self._target >= 0:
            os.close(self._target)
            self._target = -1
