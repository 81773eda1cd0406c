# SPDX-License-Identifier: Apache-2.0
"""Descriptor: a file descriptor that is closed unless somebody takes it."""

from __future__ import annotations

from supervisor.kernel.native import close_given


class Descriptor:
    """Owns one file descriptor (close-on-exec), such as one that came with a message."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The number; -1 once it was detached or closed."""
        return self._fd

    def detach(self) -> int:
        """The number, which the caller must close from now on."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Safe to call twice."""
        fd = self.detach()
        if fd >= 0:
            close_given(fd)

    def __del__(self) -> None:
        try:
            self.close()
        except AttributeError:  # no descriptor was ever made
            pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._fd}>"
