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
        try:
            found = []
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
        finally:
            os.close(fd)
        return sorted(found, key=lambda item: os.fsencode(item[0]))

    def _leave_out(self, parts: tuple[str, ...], reason: str) -> None:
        self.complete = False
        self.unread["/".join(parts) or "."] = reason


def kind_of(mode: int) -> str:
    """``file``, ``directory``, ``link`` or ``other``."""
    return FILE if stat.S_ISREG(mode) else DIRECTORY if stat.S_ISDIR(mode) else LINK if stat.S_ISLNK(mode) else OTHER
