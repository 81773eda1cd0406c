# SPDX-License-Identifier: Apache-2.0
"""Opening and walking a directory that hostile programs may change at the same time.

Every path is resolved by the kernel from the top directory's descriptor, through no link of any kind and never out of it
(openat2(2) with RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS, Linux 5.6), so nothing lies between a check and a use.
"""

from __future__ import annotations

import errno
import os
import stat

from supervisor.errors import UnsupportedError
from supervisor.kernel.native import check, lib
from supervisor.model.changes import DIRECTORY, FILE, LINK, OTHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

#: A rename anywhere makes the kernel answer EAGAIN; a job that renames without end does not hold us up.
TRIES_MAX: Final = 64
_OPENED: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO does not block, nor does a lease
_NAMED: Final = os.O_CLOEXEC | os.O_NOFOLLOW  # all that openat2 takes beside O_PATH, which opens nothing
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(top_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of ``path`` below the directory. Raises OSError: ELOOP or EXDEV for a link or a way out, EAGAIN for a
    tree that is renamed without end; :class:`UnsupportedError` where the kernel or a filter of ours lacks openat2."""
    raw = os.fsencode(path)
    result = -errno.EAGAIN
    for _ in range(TRIES_MAX):
        result = lib.sup_open_beneath(top_fd, raw, flags | (_NAMED if flags & os.O_PATH else _OPENED), mode)
        if result != -errno.EAGAIN:
            break
    if result == -errno.ENOSYS:
        raise UnsupportedError("files", "openat2 is missing (Linux 5.6, or a container whose filter lacks it)")
    return check(result, path)


class Walk:
    """One bounded walk through everything below a directory: names in order, directories before what is in them.

    ``complete`` is false once a cap ended it, or a directory could not be read; ``unread`` names those.
    """

    def __init__(self, top_fd: int, depth_max: int, entries_max: int, leads_on: Callable[[tuple[str, ...]], bool] | None = None) -> None:
        self._top_fd = top_fd
        self._depth_max = depth_max
        self._left = entries_max
        self._leads_on = leads_on
        self.complete = True
        self.unread: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            parts = waiting.pop()
            folders = []
            for name, status in self._list(parts):
                below = (*parts, name)
                yield below, status
                if stat.S_ISDIR(status.st_mode) and (self._leads_on is None or self._leads_on(below)):
                    if len(below) > self._depth_max:
                        self._leave_out(below, "depth_max")
                    else:
                        folders.append(below)
            waiting += reversed(folders)

    def _list(self, parts: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
        try:
            fd = open_beneath(self._top_fd, "/".join(parts) or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self._leave_out(parts, "changing" if error.errno in (errno.ENOENT, errno.EAGAIN, errno.ENOTDIR, errno.ELOOP) else "unreadable")
            return []
        found = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if self._left <= 0:
                        self._leave_out(parts, "entries_max")
                        break
                    self._left -= 1
                    try:
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue
        except OSError:  # the directory may be listed and not searched, or its file system fails half-way
            self._leave_out(parts, "unreadable")
        finally:
            os.close(fd)
        return sorted(found, key=lambda item: os.fsencode(item[0]))

    def _leave_out(self, parts: tuple[str, ...], reason: str) -> None:
        self.complete = False
        self.unread["/".join(parts) or "."] = reason


def each_below(top_fd: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Everything below a directory, however deep: the descriptor of its directory, its name and its stat; a directory before what is in it.

    One descriptor and no recursion, for a job makes trees deeper than either lasts. The way back up is "..", which must be the
    directory we came from. Passes over directories that may not be read or searched. Raises OSError, ESTALE for a directory that
    was moved meanwhile.
    """
    above: list[tuple[tuple[int, int], list[str]]] = []
    fd = os.open(".", _FOLDER, dir_fd=top_fd)
    try:
        while True:
            folders = []
            for name in os.listdir(fd):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                yield fd, name, status
                if stat.S_ISDIR(status.st_mode):
                    folders.append(name)
            above.append((_identity(fd), folders))
            while True:
                folders = above[-1][1]
                if not folders:
                    above.pop()
                    if not above:
                        return
                    fd = _moved(fd, "..")
                    if _identity(fd) != above[-1][0]:
                        raise OSError(errno.ESTALE, "a directory was moved meanwhile")
                    continue
                try:
                    fd = _moved(fd, folders.pop())
                except PermissionError:
                    continue
                break
    finally:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _moved(fd: int, name: str) -> int:
    """The descriptor of a neighbouring directory instead of this one, which is closed. Raises OSError and leaves it open."""
    there = os.open(name, _FOLDER, dir_fd=fd)
    try:
        os.stat(".", dir_fd=there)  # who may only list it has no way back up
    except BaseException:
        os.close(there)
        raise
    os.close(fd)
    return there


def empty(top_fd: int) -> None:
    """Remove everything below, however deep: a directory in a directory is first moved to the top, so nothing recurses.

    Follows no link. Raises OSError.
    """
    while names := os.listdir(top_fd):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top_fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top_fd)
                continue
            unlock(top_fd, name)
            fd = os.open(name, _FOLDER, dir_fd=top_fd)
            try:
                for below in os.listdir(fd):
                    if stat.S_ISDIR(os.stat(below, dir_fd=fd, follow_symlinks=False).st_mode):
                        unlock(fd, below)  # its entry for what lies above is rewritten, so it must be writable
                        os.rename(below, f"{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top_fd)
                    else:
                        os.unlink(below, dir_fd=fd)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=top_fd)


def unlock(folder_fd: int, name: str) -> None:
    """Make a directory ours to change, whatever mode the job left it in."""
    if os.geteuid() == 0:
        return
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | _NAMED, dir_fd=folder_fd)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a directory with everything in it, as :func:`empty` does. Raises OSError, also for a link."""
    fd = os.open(path, _FOLDER)
    try:
        empty(fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def kind_of(mode: int) -> str:
    """``file``, ``directory``, ``link`` or ``other``."""
    return FILE if stat.S_ISREG(mode) else DIRECTORY if stat.S_ISDIR(mode) else LINK if stat.S_ISLNK(mode) else OTHER
