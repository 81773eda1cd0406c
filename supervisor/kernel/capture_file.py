# SPDX-License-Identifier: Apache-2.0
"""CaptureFile: the file that takes a job's output, opened so that neither links nor other writers can harm it."""

from __future__ import annotations

import os
import stat

from supervisor.errors import ConfigError
from supervisor.kernel.native import MAX_UINT64, check, ffi, lib, lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.model.capture import Capture

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK


class CaptureFile:
    """Owns the open file and its directory until native code takes them over.

    The file is locked (flock(2)) as long as it is written, so two jobs never overwrite each other's output. Raises
    :class:`ConfigError` naming the file when it cannot be had; nothing is left open then.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._folder = self._fd = -1
        folder, self._name = os.path.split(os.fsencode(capture.path))
        try:
            self._folder = os.open(folder or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._fd = os.open(self._name, FLAGS, 0o666, dir_fd=self._folder)
            self._size = self._prepare()
        except OSError as error:
            self.close()
            raise ConfigError(f"capture: {_words(error)}", source=capture.path) from None
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> int:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise ConfigError("capture: is not a regular file; give its descriptor instead", source=self._capture.path)
        try:
            free = lock(self._fd, wait=False)
        except OSError:
            free = True  # a file system without locks
        if not free:
            raise ConfigError("capture: another job's output goes there already", source=self._capture.path)
        if not self._capture.append:
            os.ftruncate(self._fd, 0)
        return os.lseek(self._fd, 0, os.SEEK_END)

    def give(self, output: Any, number: int, pipe: int) -> None:
        """Stream ``number`` of the native output goes here, read from ``pipe`` (-1: it is open already); both are native code's then."""
        capture = self._capture
        name = ffi.new("char[]", self._name)
        plan = ffi.new("struct sup_capture *")
        plan.name, plan.dir_fd, plan.fd, plan.size = name, self._folder, self._fd, self._size
        plan.max_bytes = MAX_UINT64 if capture.max_bytes is None else capture.max_bytes
        plan.keep, plan.lines = capture.keep, capture.lines
        check(lib.sup_output_capture(output, number, pipe, plan), capture.path)
        self._folder = self._fd = -1

    def close(self) -> None:
        """Let go of what native code did not take."""
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._folder = self._fd = -1


def _words(error: OSError) -> str:
    if error.errno == 40:  # ELOOP
        return "is a symbolic link; name the file itself"
    if error.errno in (6, 21):  # ENXIO: a FIFO without a reader; EISDIR
        return "is not a regular file; give its descriptor instead"
    return str(error.strerror)
