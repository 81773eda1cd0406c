# SPDX-License-Identifier: Apache-2.0
"""AuditFile: records as JSON lines, each appended whole."""

from __future__ import annotations

import os
import stat

from supervisor.errors import ConfigError


class AuditFile:
    """Owns the descriptor of a file that records are appended to, readable by its owner only where it is new.

    Raises :class:`ConfigError` when it is no regular file, cannot be written, or lies in the directory ``apart_from``,
    where the jobs could change it.
    """

    def __init__(self, path: str, apart_from: str) -> None:
        if os.path.realpath(path).startswith(apart_from.rstrip("/") + "/"):
            raise ConfigError("audit: lies in the work directory, where the commands could change it", source=path)
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise ConfigError(f"audit: {error.strerror}", source=path) from None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise ConfigError("audit: is not a regular file", source=path)

    def write(self, line: str) -> None:
        """Append one line; raises OSError, and then what was written of it is taken back."""
        raw = line.encode() + b"\n"
        size = os.fstat(self._fd).st_size
        done = 0
        try:
            while done < len(raw):
                done += os.write(self._fd, raw[done:])
        except OSError:
            if done:
                os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
