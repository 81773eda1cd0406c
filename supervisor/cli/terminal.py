# SPDX-License-Identifier: Apache-2.0
"""A terminal of the job's own (``--pty``), connected to ours: raw keys in, everything out, window size."""

from __future__ import annotations

import os
import select
import termios

from supervisor.kernel.pty import END_OF_INPUT, PseudoTerminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.kernel.native import Engine
    from supervisor.runtime.execution import Execution

KEYS_AT_ONCE = 4096
PATIENCE_MS = 20


class Terminal:
    """Owns the job's terminal and, while connected, the mode of our own."""

    def __init__(self) -> None:
        self.pty = PseudoTerminal()
        self._saved: list[Any] | None = None
        self._watch: Any = None
        self._engine: Engine | None = None
        self._held = b""
        self._inside_line = self._ended = False
        self._always = -1  # readable like our standard input where that is a plain file, which nobody can be woken by
        self.token = 0
        self.copy_size()

    def copy_size(self) -> None:
        """Give the job's terminal the size of ours; the kernel tells the job (SIGWINCH)."""
        for fd in (0, 1, 2):
            try:
                size = termios.tcgetwinsize(fd)
            except termios.error:
                continue
            termios.tcsetwinsize(self.pty.master, size)
            return

    def connect(self, engine: Engine, execution: Execution) -> None:
        """Start copying in both directions; our own terminal becomes raw until :meth:`close`."""
        execution.streams.relay_from(1, os.dup(self.pty.master), 1)
        if os.isatty(0):
            self._saved = termios.tcgetattr(0)
            termios.tcsetattr(0, termios.TCSADRAIN, _raw(termios.tcgetattr(0)))
        self._engine = engine
        self.token = engine.new_token()
        try:
            self._watch = engine.watch_ready(self.token, 0)
        except PermissionError:
            self._always = os.eventfd(1, os.EFD_CLOEXEC)
            self._watch = engine.watch_ready(self.token, self._always)

    def release(self) -> None:
        """The job has its side now."""
        self.pty.release()

    def on_keys(self) -> None:
        """Our standard input is readable: hand it on. What the job does not take yet is held back, the end of the input too."""
        if not self._held:
            self._held = self._next()
        poller = select.poll()
        poller.register(self.pty.master, select.POLLOUT)
        if poller.poll(PATIENCE_MS):
            try:
                self._held = self._held[os.write(self.pty.master, self._held) :]
            except BlockingIOError:
                pass
        if self._ended and not self._held:
            self._stop_reading()

    def _next(self) -> bytes:
        try:
            keys = os.read(0, KEYS_AT_ONCE)
        except OSError:  # our terminal is gone, or it is a directory
            keys = b""
        if not keys:
            self._ended = True
            return END_OF_INPUT * (2 if self._inside_line else 1)  # the first ends the line, as a key does
        self._inside_line = keys[-1:] != b"\n"
        return keys

    def _stop_reading(self) -> None:
        if self._watch is not None and self._engine is not None:
            self._engine.unwatch(self._watch)
            self._watch = None

    def close(self) -> None:
        """Put our terminal back as it was and let both sides go."""
        self._stop_reading()
        if self._always >= 0:
            os.close(self._always)
            self._always = -1
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
            self._saved = None
        self.pty.close()


def _raw(mode: list[Any]) -> list[Any]:
    """cfmakeraw(3)."""
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    return mode
