# SPDX-License-Identifier: Apache-2.0
"""Files out of a work directory: regular files only, through no link, bounded, whatever the job does meanwhile.

A file with several names (hard links) is taken only when it belongs to the owner of the work directory: whoever owns
a file can read it anyway, and nobody else's file gets out by being linked in.
"""

from __future__ import annotations

import errno
import os
import stat

from supervisor.errors import ConfigError
from supervisor.kernel.beneath import Walk, open_beneath
from supervisor.model.transfer import (
    BYTES,
    CHANGING,
    FILES,
    HARD_LINK,
    LINK,
    SPECIAL,
    UNREADABLE,
    Collected,
    CollectedFile,
    leads_on,
    parse_patterns,
    wanted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from supervisor.model.transfer import TransferCaps

_CHUNK: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def collect(top_fd: int, patterns: str | Iterable[str], caps: TransferCaps, into: Any = None) -> Collected:
    """The files whose names match, into memory, or below the directory ``into`` with their holes kept.

    Never raises for what the job did: what is left out is in ``skipped`` with the reason. Raises
    :class:`ConfigError` for wrong patterns or an ``into`` that cannot be used, OSError when it cannot be written.
    """
    parsed = parse_patterns(patterns)
    into_fd = _open_folder(into) if into is not None else -1
    try:
        return _Collection(top_fd, parsed, caps, into_fd, "" if into is None else os.fspath(into)).run()
    finally:
        if into_fd >= 0:
            os.close(into_fd)


def _open_folder(path: Any) -> int:
    try:
        os.makedirs(path, exist_ok=True)
        return os.open(path, _FOLDER)
    except OSError as error:
        raise ConfigError(f"collect: {error.strerror}", source=os.fsdecode(path)) from None


class _Collection:
    """One collection under way: what was taken and what was left out so far."""

    def __init__(self, top_fd: int, patterns: tuple[tuple[str, ...], ...], caps: TransferCaps, into_fd: int, into: str) -> None:
        self._top_fd = top_fd
        self._owner = os.fstat(top_fd).st_uid
        self._patterns = patterns
        self._caps = caps
        self._left_bytes = caps.bytes_max
        self._into_fd = into_fd
        self._into = into
        self._files: dict[str, CollectedFile] = {}
        self._skipped: dict[str, str] = {}

    def run(self) -> Collected:
        walk = Walk(self._top_fd, self._caps.depth_max, self._caps.entries_max, lambda parts: leads_on(self._patterns, parts))
        full = False
        for parts, status in walk:
            if stat.S_ISDIR(status.st_mode) or not wanted(self._patterns, parts):
                continue
            name = "/".join(parts)
            if full := len(self._files) + len(self._skipped) >= 2 * self._caps.files_max or len(self._files) >= self._caps.files_max:
                self._skipped[name] = FILES
                break
            if not stat.S_ISREG(status.st_mode):  # not even opened: opening a device may do something
                self._skipped[name] = LINK if stat.S_ISLNK(status.st_mode) else SPECIAL
            else:
                self._take(name)
        self._skipped.update(walk.unread)
        return Collected(files=self._files, skipped=self._skipped, complete=walk.complete and not full)

    def _take(self, name: str) -> None:
        try:
            fd = open_beneath(self._top_fd, name, os.O_RDONLY)
        except OSError as error:
            denied = error.errno in (errno.EACCES, errno.EPERM)
            self._skipped[name] = UNREADABLE if denied else LINK if error.errno in (errno.ELOOP, errno.EXDEV) else CHANGING
            return
        try:
            status = os.fstat(fd)  # of what was opened, whatever the name stands for by now
            reason = self._reason(status)
            if reason:
                self._skipped[name] = reason
                return
            os.set_blocking(fd, True)
            self._read(fd, name, status)
        finally:
            os.close(fd)

    def _reason(self, status: os.stat_result) -> str:
        if not stat.S_ISREG(status.st_mode):
            return SPECIAL
        if status.st_nlink > 1 and status.st_uid != self._owner:
            return HARD_LINK
        return BYTES if status.st_size > self._left_bytes else ""

    def _read(self, fd: int, name: str, status: os.stat_result) -> None:
        size, executable = status.st_size, bool(status.st_mode & 0o100)
        if self._into_fd < 0:
            try:
                content = _contents(fd, size)
            except OSError:
                self._skipped[name] = UNREADABLE
                return
            self._files[name] = CollectedFile(size_bytes=len(content), executable=executable, content=content)
            self._left_bytes -= len(content)
            return
        if not _store(fd, size, self._into_fd, name, executable):
            self._skipped[name] = UNREADABLE
            return
        self._files[name] = CollectedFile(size_bytes=size, executable=executable, path=os.path.join(self._into, name))
        self._left_bytes -= size


def _contents(fd: int, size: int) -> bytes:
    """At most ``size`` bytes: a file that grows meanwhile does not grow here. Raises OSError."""
    parts = []
    at = 0
    while at < size and (part := os.pread(fd, min(_CHUNK, size - at), at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _store(fd: int, size: int, into_fd: int, name: str, executable: bool) -> bool:
    """Copy a file, holes as holes, whole or not at all; False when it cannot be read. Raises OSError when it cannot be written."""
    *folders, last = name.split("/")
    folder_fd = make_folders(into_fd, folders)
    temporary = f".ringfence-{os.urandom(8).hex()}"
    try:
        to_fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755 if executable else 0o644, dir_fd=folder_fd)
        try:
            try:
                _copy_data(fd, size, to_fd)
            finally:
                os.close(to_fd)
            os.rename(temporary, last, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except BaseException as error:
            os.unlink(temporary, dir_fd=folder_fd)
            if isinstance(error, _Unreadable):
                return False
            raise
    finally:
        os.close(folder_fd)
    return True


class _Unreadable(Exception):
    """The file under the job's hands cannot be read."""


def _copy_data(fd: int, size: int, to_fd: int) -> None:
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = min(size, os.lseek(fd, at, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            raise _Unreadable from None
        while at < end:
            try:
                part = os.pread(fd, min(_CHUNK, end - at), at)
            except OSError:
                raise _Unreadable from None
            if not part:
                break  # it was cut short meanwhile
            done = 0
            while done < len(part):
                done += os.pwrite(to_fd, part[done:], at + done)
            at += len(part)
        else:
            continue
        break
    os.ftruncate(to_fd, size)


def make_folders(top_fd: int, folders: list[str], owner: tuple[int, int] | None = None) -> int:
    """Make directories below one another, through no link; a descriptor of the last. Raises OSError."""
    fd = os.dup(top_fd)
    try:
        for n, name in enumerate(folders):
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
                made = True
            except FileExistsError:
                made = False
            deeper = open_beneath(top_fd, "/".join(folders[: n + 1]), _FOLDER)
            os.close(fd)
            fd = deeper
            if made and owner is not None:
                os.fchown(fd, *owner)
    except BaseException:
        os.close(fd)
        raise
    return fd
