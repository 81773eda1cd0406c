# SPDX-License-Identifier: Apache-2.0
"""What a job changed in its overlays, read from their upper layers before these are thrown away.

The job made the names and the modes there, so nothing is believed: every step opens one name below a descriptor,
follows no link, and what is looked at is bounded. The layers are those of overlayfs in a user namespace
(Documentation/filesystems/overlayfs.rst, ``userxattr``): a character device 0/0 stands for what was deleted, the
attribute ``user.overlay.opaque`` for a directory that hides the host's.
"""

from __future__ import annotations

import errno
import os
import stat

from supervisor.model.outcome import Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from supervisor.model.sandbox import Overlay

CHANGES_MAX: Final = 4096
LOOKED_AT_MAX: Final = 65536
DEPTH_MAX: Final = 64
OPAQUE: Final = "user.overlay.opaque"
_DIRECTORY: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _CutError(Exception):
    """A bound was reached; says which."""


def read_changes(changes_fd: int, overlays: tuple[Overlay, ...]) -> tuple[tuple[Change, ...], str]:
    """The changes in the overlays that ask for a list, by path, and why there may be more; nothing when these are all.

    ``changes_fd``: the directory in which the n-th overlay has its upper layer, ``n/changes``, n from 1. Makes
    directories in there readable.
    """
    walk = _Walk()
    incomplete = ""
    for number, overlay in enumerate(overlays, 1):
        if overlay.changes != "list" or incomplete:
            continue
        try:
            walk.overlay(changes_fd, f"{number}/changes", overlay)
        except _CutError as error:
            incomplete = str(error)
        except OSError as error:
            incomplete = f"{error.filename or overlay.target}: {error.strerror}"
    return tuple(sorted(walk.found, key=lambda change: change.path)), incomplete


class _Walk:
    """Owns what was found so far, and counts what was looked at."""

    def __init__(self) -> None:
        self.found: list[Change] = []
        self._looked_at = 0

    def overlay(self, changes_fd: int, layer: str, overlay: Overlay) -> None:
        upper = os.open(layer, os.O_PATH | _DIRECTORY, dir_fd=changes_fd)
        try:
            upper = _readable(upper)
            lower = os.open(overlay.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._directory(upper, lower, overlay.target, _is_opaque(upper), 0)
            finally:
                os.close(lower)
        finally:
            os.close(upper)

    def _directory(self, upper: int, lower: int, path: str, opaque: bool, depth: int) -> None:
        """Compare what is in two directories; ``lower`` is -1 where the host has none."""
        if depth > DEPTH_MAX:
            raise _CutError(f"it lies deeper than {DEPTH_MAX} directories")
        names = set()
        for entry in self._entries(upper):
            names.add(entry.name)
            self._entry(entry, upper, lower, f"{path}/{entry.name}", opaque, depth)
        if opaque and lower >= 0:
            for entry in self._entries(lower):
                if entry.name not in names:
                    self._put(f"{path}/{entry.name}", "deleted", entry.stat(follow_symlinks=False))

    def _entries(self, fd: int) -> Iterator[os.DirEntry[str]]:
        with os.scandir(fd) as entries:
            for entry in entries:
                self._looked_at += 1
                if self._looked_at > LOOKED_AT_MAX:
                    raise _CutError(f"more than {LOOKED_AT_MAX} files would have to be looked at")
                yield entry

    def _entry(self, entry: os.DirEntry[str], upper: int, lower: int, path: str, opaque: bool, depth: int) -> None:
        now, before = entry.stat(follow_symlinks=False), _about(lower, entry.name)
        if stat.S_ISCHR(now.st_mode) and now.st_rdev == 0:
            if before is not None:
                self._put(path, "deleted", before)
            return
        was_directory = before is not None and stat.S_ISDIR(before.st_mode)
        if before is None:
            self._put(path, "added", now)
        elif not (stat.S_ISDIR(now.st_mode) and was_directory and now.st_mode == before.st_mode):
            self._put(path, "changed", now)
        if not stat.S_ISDIR(now.st_mode):
            return
        inner_upper = os.open(entry.name, os.O_PATH | _DIRECTORY, dir_fd=upper)
        inner_lower = -1
        try:
            inner_upper = _readable(inner_upper)
            if was_directory:
                inner_lower = os.open(entry.name, os.O_RDONLY | _DIRECTORY, dir_fd=lower)
            self._directory(inner_upper, inner_lower, path, opaque or _is_opaque(inner_upper), depth + 1)
        finally:
            os.close(inner_upper)
            if inner_lower >= 0:
                os.close(inner_lower)

    def _put(self, path: str, kind: str, about: os.stat_result) -> None:
        if len(self.found) >= CHANGES_MAX:
            raise _CutError(f"there are more than {CHANGES_MAX}")
        mode = about.st_mode
        file_type = "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"
        size = about.st_size if file_type == "file" and kind != "deleted" else None
        self.found.append(Change(path=path, kind=kind, file_type=file_type, size_bytes=size))


def _readable(fd: int) -> int:
    """A descriptor to read a directory with instead of the O_PATH one, which is closed; the job may have left it without any permission."""
    own = f"/proc/self/fd/{fd}"  # the very directory, whatever its name means by now
    if os.fstat(fd).st_mode & 0o500 != 0o500:
        os.chmod(own, 0o700)
    made = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(fd)
    return made


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return False


def _about(folder: int, name: str) -> os.stat_result | None:
    if folder < 0:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
