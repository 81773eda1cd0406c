# SPDX-License-Identifier: Apache-2.0
"""One job's cgroup: kill it, freeze it, read it, remove it."""

from __future__ import annotations

import errno
import os

from supervisor.errors import CgroupError
from supervisor.kernel import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SIGKILL = 9


class Cgroup:
    """Owns the directory descriptor of one job's cgroup and, through it, the whole tree below.

    ``name`` is its directory below ``root_fd``. Every path goes through the descriptors, so nothing
    that is renamed or replaced meanwhile can redirect a write. ``unread``: why a file was not read although
    it may be there, empty when every one was.
    """

    __slots__ = ("fd", "name", "root_fd", "unread")

    def __init__(self, root_fd: int, name: str, fd: int) -> None:
        self.root_fd = root_fd
        self.name = name
        self.fd = fd
        self.unread = ""

    def read(self, path: str) -> str | None:
        """The text of a file of the tree, or None where the kernel or the controller lacks it, or :attr:`unread` says why."""
        try:
            return native.read_at(self.fd, path)
        except OSError as error:
            self.unread = f"{path}: {error.strerror}"
            return None

    def write(self, path: str, text: str) -> None:
        """Write a file of the tree; raises :class:`CgroupError`."""
        try:
            native.write_at(self.fd, path, text)
        except OSError as error:
            raise CgroupError(error.errno or 0, error.strerror or "", f"{self.name}/{path}", "write") from None

    def is_populated(self) -> bool:
        """Some process of the tree is alive, as far as can be told."""
        try:
            return "populated 1" in (native.read_at(self.fd, "cgroup.events") or "")
        except OSError:
            return True

    def is_frozen(self) -> bool:
        """Every process of the tree has reached the freezer."""
        return "frozen 1" in (self.read("cgroup.events") or "")

    def open_events(self, below: str = "") -> int:
        """A new descriptor of cgroup.events, for the engine to wait on; raises OSError."""
        return os.open(f"{below}/cgroup.events" if below else "cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)

    def wait_empty(self, patience_ms: int) -> None:
        """Until no process is left, woken by the kernel, or patience runs out; raises OSError."""
        import select

        events = self.open_events()
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            deadline_ns = native.now_ns() + patience_ms * 1_000_000
            while b"populated 1" in os.pread(events, 256, 0):
                left_ms = (deadline_ns - native.now_ns()) // 1_000_000
                if left_ms <= 0 or not poller.poll(left_ms):
                    return
        finally:
            os.close(events)

    def freeze(self, frozen: bool, below: str = "") -> None:
        """Stop or continue the whole tree, or what is ``below`` (Linux 5.2); returns before the last task has stopped."""
        self.write(f"{below}/cgroup.freeze" if below else "cgroup.freeze", "1" if frozen else "0")

    def kill(self) -> None:
        """SIGKILL to every process of the tree at once, frozen ones too (cgroup.kill, Linux 5.14).

        Older kernels: freeze, so that nobody forks, signal every member, thaw.
        """
        try:
            native.write_at(self.fd, "cgroup.kill", "1")
        except FileNotFoundError:
            self._kill_each()

    def _kill_each(self) -> None:
        try:
            self.freeze(True)
        except CgroupError:
            pass  # before Linux 5.2: the loop below runs until nobody is left
        for pid in self.members():
            try:
                os.kill(pid, SIGKILL)
            except (ProcessLookupError, PermissionError):  # it has ended, or is another user's by now
                continue
        try:
            self.freeze(False)
        except CgroupError:
            pass

    def members(self, below: str = "") -> list[int]:
        """Process ids of the whole tree, or of what is ``below``, as this process sees them."""
        pids = []
        for folder in self._folders(self.fd, ""):
            if not folder.startswith(below):
                continue
            text = self.read(f"{folder}/cgroup.procs" if folder else "cgroup.procs") or ""
            pids += [int(line) for line in text.split()]
        return pids

    def _folders(self, fd: int, path: str) -> Iterator[str]:
        """Every directory of the tree, deepest first, the top one last."""
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in names:
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            except FileNotFoundError:
                continue
            try:
                yield from self._folders(below, f"{path}/{name}" if path else name)
            finally:
                os.close(below)
        yield path

    def remove(self, known: tuple[str, ...] = ()) -> None:
        """Remove the empty tree, directories that the job made included, and close the descriptor.

        ``known``: directories in it that we made, what lies above first; removing these needs no look round.
        Raises :class:`CgroupError` when something in it is still alive.
        """
        try:
            for folder in reversed(known):
                os.rmdir(folder, dir_fd=self.fd)
            os.rmdir(self.name, dir_fd=self.root_fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT):
                raise
            self._remove_tree()
        finally:
            os.close(self.fd)
            self.fd = -1

    def _remove_tree(self) -> None:
        for folder in self._folders(self.fd, ""):
            path = f"{self.name}/{folder}" if folder else self.name
            try:
                os.rmdir(path, dir_fd=self.root_fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CgroupError(error.errno or 0, error.strerror or "", path, "remove") from None
