# SPDX-License-Identifier: Apache-2.0
"""WorkDirectory: the directory that jobs work in, and that we look into without following what they made of it."""

from __future__ import annotations

import os
import stat

from supervisor.errors import ConfigError
from supervisor.kernel.beneath import Walk, empty, kind_of
from supervisor.kernel.collect import collect, make_folders
from supervisor.model.changes import Look, Seen
from supervisor.model.transfer import parse_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

    from supervisor.model.transfer import Collected, TransferCaps

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK: Final = 1 << 20


class WorkDirectory:
    """Owns the descriptor of a work directory, and the directory itself when it made it.

    ``path``: an existing directory, left as it is at the end; without it a new one is made below TMPDIR and removed
    by :meth:`remove`. ``owner``: the user and group that files placed there belong to. Raises :class:`ConfigError`.
    """

    def __init__(self, path: str | None = None, owner: tuple[int, int] | None = None) -> None:
        self.is_own = path is None
        self._owner = owner
        if path is None:
            path = os.path.join(os.path.realpath(os.environ.get("TMPDIR") or "/tmp"), f"ringfence-work-{os.urandom(8).hex()}")
            try:
                os.mkdir(path, 0o700)
            except OSError as error:
                raise ConfigError(f"work directory: {error.strerror}", source=path) from None
        self.path = os.path.realpath(path)
        try:
            self.fd = os.open(self.path, _FOLDER)
            if self.is_own and owner is not None:
                os.fchown(self.fd, *owner)
        except OSError as error:
            if self.is_own:
                os.rmdir(self.path)
            raise ConfigError(f"work directory: {error.strerror}", source=self.path) from None

    def put(self, files: Mapping[str, Any]) -> None:
        """Place files: bytes, or a Path of ours to copy. Each is whole or not there, and replaces what had its name, links too.

        Raises :class:`ConfigError` for wrong names, before anything is written, and for what cannot be placed; the files
        before it are in place then.
        """
        for name, content in parse_files(files).items():
            try:
                self._put_one(name, content)
            except OSError as error:
                raise ConfigError(f"files: {name!r} cannot be placed: {error.strerror or error}") from None

    def _put_one(self, name: str, content: Any) -> None:
        *folders, last = name.split("/")
        folder_fd = make_folders(self.fd, folders, self._owner)
        temporary = f".ringfence-{os.urandom(8).hex()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder_fd)
            try:
                try:
                    _fill(fd, content)
                    if self._owner is not None:
                        os.fchown(fd, *self._owner)
                finally:
                    os.close(fd)
                os.rename(temporary, last, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)  # replaces a link, never follows it
            except BaseException:
                os.unlink(temporary, dir_fd=folder_fd)
                raise
        finally:
            os.close(folder_fd)

    def collect(self, patterns: str | Iterable[str], caps: TransferCaps, into: Any = None) -> Collected:
        """See :func:`supervisor.kernel.collect.collect`."""
        return collect(self.fd, patterns, caps, into)

    def look(self, caps: TransferCaps) -> Look:
        """Everything there is now, within the caps. The time of change (st_ctime) is the kernel's, which no job can set."""
        walk = Walk(self.fd, caps.depth_max, caps.entries_max)
        seen = {}
        for parts, status in walk:
            stamp = (status.st_ino, status.st_ctime_ns, status.st_mode)
            seen["/".join(parts)] = Seen(kind=kind_of(status.st_mode), size_bytes=status.st_size, stamp=stamp)
        return Look(seen=seen, complete=walk.complete)

    def remove(self) -> str:
        """Close it and, if it is our own, remove it with everything in it. The jobs must be gone.

        Returns why it could not be removed, empty when it could.
        """
        if self.fd < 0:
            return ""
        try:
            if self.is_own:
                empty(self.fd)
                os.rmdir(self.path)
        except OSError as error:
            return f"the work directory {self.path} is still there: {error.strerror}"
        finally:
            os.close(self.fd)
            self.fd = -1
        return ""


def _fill(fd: int, content: Any) -> None:
    if not hasattr(content, "__fspath__"):
        _write(fd, content)
        return
    source = os.open(content, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, f"{os.fspath(content)} is not a regular file")
        while part := os.read(source, _CHUNK):
            _write(fd, part)
        if status.st_mode & 0o100:
            os.fchmod(fd, 0o755)
    finally:
        os.close(source)


def _write(fd: int, content: Any) -> None:
    left = memoryview(content).cast("B")
    while left:
        left = left[os.write(fd, left) :]
