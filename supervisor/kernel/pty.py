# SPDX-License-Identifier: Apache-2.0
"""PseudoTerminal: a terminal for a job, and its other side for whoever talks to it."""

from __future__ import annotations

import os
import termios

from supervisor.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT_ROWS: Final = 24
DEFAULT_COLUMNS: Final = 80
#: struct winsize holds 16 bits each (ioctl_tty(2)).
SIZE_MAX: Final = 0xFFFF
#: What ends the input of a program that reads lines (VEOF, termios(3)).
END_OF_INPUT: Final = b"\x04"


class PseudoTerminal:
    """Owns both sides of a pseudo-terminal until they are taken; -1 is a side that somebody else has.

    ``slave``: the job's side; ``master``: ours. Raises OSError when there is no terminal to be had.
    """

    def __init__(self, rows: int = DEFAULT_ROWS, columns: int = DEFAULT_COLUMNS) -> None:
        self.master, self.slave = os.openpty()  # close-on-exec (PEP 446)
        try:
            set_window_size(self.master, rows, columns)
        except BaseException:
            self.close()
            raise

    def take(self) -> tuple[int, int]:
        """Both sides, the caller's from now on."""
        sides = self.master, self.slave
        self.master = self.slave = -1
        return sides

    def release(self) -> None:
        """The job has its side now: close ours of it, so that its end is seen."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        """Let both sides go; safe to call twice."""
        self.release()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """The terminal has this size from now on; the kernel tells its foreground job (SIGWINCH). Raises :class:`ConfigError`, OSError."""
    for name, amount in (("rows", rows), ("columns", columns)):
        if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= SIZE_MAX:
            raise ConfigError(f"pty: {name} must be a number, 1 to {SIZE_MAX}, not {amount!r}")
    termios.tcsetwinsize(fd, (rows, columns))
