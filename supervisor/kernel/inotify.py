# SPDX-License-Identifier: Apache-2.0
"""inotify(7): learn that a name in a directory came to mean another file, without looking again and again."""

from __future__ import annotations

import os

from supervisor.kernel.native import check, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

IN_CREATE: Final = 0x100
IN_Q_OVERFLOW: Final = 0x4000
IN_ISDIR: Final = 0x40000000
_HEAD: Final = 16  # struct inotify_event before its name: wd, mask, cookie, len
_READ: Final = 65536


class Inotify:
    """Owns one inotify descriptor and the directories it watches. ``fileno()`` is readable when there is news."""

    def __init__(self) -> None:
        """Raises OSError, EMFILE when the user's instances are used up (fs.inotify.max_user_instances)."""
        self._fd = check(lib.sup_inotify_new(), "inotify_init1")
        self._names: dict[int, tuple[str, frozenset[str]]] = {}

    def fileno(self) -> int:
        return self._fd

    def watch(self, names: Iterable[str]) -> None:
        """Watch these paths from now on, and no others: each in its directory, or where that is missing in the nearest there is.

        A path ending in ``/`` is a directory whose every entry counts. Raises OSError when the user's watches
        are used up (ENOSPC, fs.inotify.max_user_watches).
        """
        wanted: dict[str, set[str]] = {}
        for path in names:
            folder, name = os.path.split(os.path.abspath(path) + ("/" if path.endswith("/") else ""))
            while not os.path.isdir(folder):
                folder, name = os.path.split(folder)
            wanted.setdefault(folder, set()).add(name)
        watched: dict[int, tuple[str, frozenset[str]]] = {}
        for folder, entries in wanted.items():
            number = lib.sup_inotify_add(self._fd, os.fsencode(folder))
            if number in (-2, -20, -13):  # ENOENT, ENOTDIR: gone in between, which its parent's watch tells; EACCES: not ours to read
                continue
            check(number, folder)
            known = watched.get(number, (folder, frozenset()))[1]  # two spellings of one directory
            watched[number] = (folder, known | entries)
        self._names = watched

    def news(self) -> bool:
        """Take every event there is; whether any is about a path that is watched."""
        found = False
        while True:
            try:
                raw = os.read(self._fd, _READ)
            except BlockingIOError:
                return found
            at = 0
            while at < len(raw):
                wd, mask, _, length = (int.from_bytes(raw[at + n : at + n + 4], "little", signed=n == 0) for n in (0, 4, 8, 12))
                name = raw[at + _HEAD : at + _HEAD + length].rstrip(b"\0")
                at += _HEAD + length
                found = self._matters(wd, mask, os.fsdecode(name)) or found

    def _matters(self, wd: int, mask: int, name: str) -> bool:
        if mask & IN_Q_OVERFLOW:
            return True
        if wd not in self._names:
            return False
        folder, names = self._names[wd]
        if name and name not in names and "" not in names:
            return False
        return not (mask & IN_CREATE and not mask & IN_ISDIR and _just_begun(os.path.join(folder, name)))

    def close(self) -> None:
        """Stop watching; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _just_begun(path: str) -> bool:
    """A new file that somebody is about to write: its end will be told. A link is whole at once."""
    try:
        about = os.lstat(path)
    except OSError:
        return False
    return os.path.isfile(path) and not os.path.islink(path) and about.st_nlink == 1
