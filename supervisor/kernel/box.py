# SPDX-License-Identifier: Apache-2.0
"""Box: a numbered directory that outlives the commands working on it, as isolate's ``--box-id`` means it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from supervisor.errors import BusyError, ConfigError
from supervisor.kernel.beneath import each_below, remove_tree, unlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: isolate's default, num_boxes of its configuration.
BOXES_MAX: Final = 1000
_LOCK_MAX_BYTES: Final = 200


class Box:
    """Owns the lock of box ``number`` below ``root``; while it is held nobody else uses the box.

    ``path`` is what ``--init`` prints, ``inside`` the directory that the program works in. The lock file
    says whose box it is and stays, also after a cleanup, because removing it would race with who waits.
    """

    def __init__(self, root: str, number: int, *, wait: bool, owner: int) -> None:
        """Take the lock. Raises :class:`ConfigError` for a number out of range or somebody else's box,
        :class:`BusyError` when another command uses it and ``wait`` is not set, OSError."""
        if number >= BOXES_MAX:
            raise ConfigError(f"--box-id: {number} is out of range (0 to {BOXES_MAX - 1})")
        self.path = os.path.join(root, str(number))
        self.inside = os.path.join(self.path, "box")
        locks = os.path.join(root, "locks")
        os.makedirs(locks, mode=0o755, exist_ok=True)
        self._fd = os.open(os.path.join(locks, str(number)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BusyError(f"box {number} is in use by another process; --wait waits for it") from None
            whose, _, self._cg = os.pread(self._fd, _LOCK_MAX_BYTES, 0).decode("ascii", "replace").strip().partition(" ")
            self.initialized = bool(whose)
            if whose not in ("", str(owner)) and os.geteuid() != 0:
                raise ConfigError(f"box {number} belongs to another user (uid {whose[:20]})")
        except BaseException:
            self.close()
            raise

    def check_mode(self, cg: bool) -> None:
        """Raises :class:`ConfigError` when the box was made without ``--cg`` and is used with it, or the other way."""
        if self.initialized and self._cg != ("cg" if cg else "plain"):
            raise ConfigError(f"the box was initialized {'without' if cg else 'with'} --cg")

    def create(self, owner: tuple[int, int], cg: bool) -> None:
        """Make the box anew, empty, and owner's; what was in it is gone. Raises OSError."""
        self.remove()
        os.mkdir(self.path, 0o755)
        os.mkdir(self.inside, 0o700)
        if os.geteuid() == 0:
            os.chown(self.inside, *owner)
        os.pwrite(self._fd, f"{owner[0]} {'cg' if cg else 'plain'}\n".encode(), 0)
        self.initialized = True

    def remove(self) -> None:
        """Take everything away; nothing is done for a box that is not there. Raises OSError."""
        os.ftruncate(self._fd, 0)
        self.initialized = False
        if os.path.lexists(self.path):
            remove_tree(self.path)

    def hand_over(self, owner: tuple[int, int] | None, keep_special: bool) -> None:
        """Make the whole tree ``owner``'s (None: leave it) and, unless ``keep_special``, remove all but files and directories.

        No link is followed, whatever the program that worked here made of the tree. Raises OSError.
        """
        above_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            unlock(above_fd, "box")  # the program may have taken its mode away
            top_fd = os.open("box", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above_fd)
        finally:
            os.close(above_fd)
        try:
            for folder_fd, name, status in each_below(top_fd):
                if not (keep_special or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                    if owner is None:
                        os.fchmod(folder_fd, 0o700)  # ours, whatever mode the program left it in
                    os.unlink(name, dir_fd=folder_fd)
                elif owner is not None:
                    os.chown(name, *owner, dir_fd=folder_fd, follow_symlinks=False)
            if owner is not None:
                os.fchown(top_fd, *owner)
        finally:
            os.close(top_fd)

    def make_temporary(self, name: str, owner: tuple[int, int] | None) -> None:
        """Make ``name`` below the box's ``tmp``, which programs cannot reach but through a bind of one such directory. Raises OSError."""
        above = os.path.join(self.path, "tmp")
        os.makedirs(above, mode=0o755, exist_ok=True)
        folder = os.path.join(above, name)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        if owner is not None:
            os.chown(folder, *owner)

    def open(self, path: str, flags: int, owner: tuple[int, int] | None) -> int:
        """Open a file of the box by its path below it, through no link and past no file that is not regular.

        What is created is ``owner``'s. Raises OSError; ELOOP or ENOTDIR for a link.
        """
        folder = os.open(self.inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *above, name = path.split("/")
            for part in above:
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = deeper
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", path)
            os.set_blocking(fd, True)
            if owner is not None:
                os.fchown(fd, *owner)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
