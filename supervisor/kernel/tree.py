# SPDX-License-Identifier: Apache-2.0
"""What holds a job's process tree: its cgroup, or the init helper where there is none.

Both answer the same calls, so nothing above asks which it is.
"""

from __future__ import annotations

import os

from supervisor.errors import CgroupError
from supervisor.kernel import native
from supervisor.kernel.native import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.native import Engine

    class Tree(Protocol):
        """The whole of one job's processes."""

        def kill(self) -> None: ...
        def signal_main(self, signal: int) -> bool: ...
        def pause(self) -> Callable[[], object] | None: ...
        def resume(self) -> None: ...
        def cpu_ns(self) -> int | None: ...
        def members(self) -> list[int]: ...


#: How long a freeze may take (a task in the kernel reaches the freezer when it comes out), and how much of it is waited for in place.
FROZEN_PATIENCE_MS, FROZEN_AT_ONCE_MS = 1000, 1
SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18


class CgroupTree:
    """A job's tree held by its own cgroup. ``pidfd`` is the main process's, -1 once it is reaped."""

    __slots__ = ("cgroup", "pidfd")

    def __init__(self, cgroup: Cgroup, pidfd: int) -> None:
        self.cgroup = cgroup
        self.pidfd = pidfd

    def kill(self) -> None:
        self.cgroup.kill()

    def signal_main(self, signal: int) -> bool:
        """Signal the main process; False when it has ended."""
        return self.pidfd >= 0 and native.send_signal(self.pidfd, signal)

    def pause(self) -> Callable[[], object] | None:
        """Freeze the tree; where there is no freezer, SIGSTOP. When tasks still run: what waits for them, on any thread."""
        try:
            self.cgroup.freeze(True)
        except CgroupError as error:
            if error.errno != 2:
                raise
            self._signal_members(SIGSTOP)
            return None
        return still_freezing(self.cgroup)

    def resume(self) -> None:
        try:
            self.cgroup.freeze(False)
        except CgroupError as error:
            if error.errno != 2:
                raise
            self._signal_members(SIGCONT)

    def _signal_members(self, signal: int) -> None:
        for pid in self.cgroup.members():
            try:
                os.kill(pid, signal)
            except (ProcessLookupError, PermissionError):
                continue

    def cpu_ns(self) -> int | None:
        from supervisor.model.stats import parse_flat_keyed  # loaded while the job runs

        usage = parse_flat_keyed(self.cgroup.read("cpu.stat") or "").get("usage_usec")
        return None if usage is None else usage * 1000

    def members(self) -> list[int]:
        return self.cgroup.members()


def still_freezing(cgroup: Cgroup, below: str = "") -> Callable[[], object] | None:
    """None when every task has stopped within an instant, else what waits for the rest of the patience."""
    if wait_frozen(cgroup, FROZEN_AT_ONCE_MS, below):
        return None
    return lambda: wait_frozen(cgroup, FROZEN_PATIENCE_MS, below)


def wait_frozen(cgroup: Cgroup, patience_ms: int, below: str = "") -> bool:
    """Until cgroup.events of the job, or of what is ``below``, says ``frozen 1``, woken by the kernel; False when patience ran out."""
    import select

    fd = cgroup.open_events(below)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        deadline = native.now_ns() + patience_ms * 1_000_000
        while b"frozen 1" not in os.pread(fd, 256, 0):
            left = (deadline - native.now_ns()) // 1_000_000
            if left <= 0 or not poller.poll(left):
                return False
    finally:
        os.close(fd)
    return True


KILL, SIGNAL, STOP, CONTINUE, USAGE, MAPPED = 1, 2, 3, 4, 5, 6
STARTED, FAILED, ENDED, USAGE_NOTICE, LISTENER = 1, 2, 3, 4, 5
#: The helper answers within a millisecond on an idle host. One that does not is continued, in case the job stopped it, again
#: and again, in case the job goes on stopping it; only after so many turns, enough for a loaded host too, does it count as lost.
ANSWER_PATIENCE_MS = 20
ANSWER_TURNS = 30


class HelperTree:
    """A job's tree held by the init helper; owns our end of its control socket, and what came through it until it is taken."""

    __slots__ = ("_engine", "_notices", "_watch", "changes_fd", "fd", "helper_pid", "listener_fd", "lost")
    cgroup: Cgroup | None = None  # a strict sandbox's has one beside the helper

    def __init__(self, engine: Engine, token: int, fd: int, helper_pid: int) -> None:
        self.fd = fd
        self._engine = engine
        self._watch: Any = engine.watch_ready(token, fd)
        self.helper_pid = helper_pid
        self.lost = False
        self.listener_fd = -1  # of the job's filter, until somebody takes it
        self.changes_fd = -1  # the directory of the changes in its overlays
        self._notices: list[Any] = []

    def _ask(self, kind: int, signal: int = 0) -> bool:
        try:
            os.write(self.fd, kind.to_bytes(4, "little") + signal.to_bytes(4, "little"))
        except OSError:
            return False  # the helper has ended, and with it the tree
        return True

    def receive(self) -> Any:
        """The next notice (a ``struct sup_notice``), or None at the end of the helper."""
        if self._notices:
            return self._notices.pop(0)
        return self._read()

    def receive_more(self) -> Any:
        """Another notice, if it is there already."""
        return self._notices.pop(0) if self._notices else self._read(wait=False)

    def _read(self, wait: bool = True) -> Any:
        try:
            raw, fd = native.receive(self.fd, wait)
        except ConnectionResetError:  # it ended with a request of ours unread; said once, what it told us before is still there
            raw, fd = native.receive(self.fd, wait)
        if raw is None:
            return None
        if not raw:
            self._unwatch()  # an end of file stays readable, and the helper's own end takes the kernel a while
        notice = ffi.from_buffer("struct sup_notice *", bytearray(raw)) if len(raw) == ffi.sizeof("struct sup_notice") else None
        if fd >= 0:
            self._keep(fd, 0 if notice is None else notice.kind)
        return notice

    def _keep(self, fd: int, kind: int) -> None:
        """A descriptor came with a notice of this kind."""
        if kind == LISTENER and self.listener_fd < 0:
            self.listener_fd = fd
        elif kind == ENDED and self.changes_fd < 0:
            self.changes_fd = fd
        else:
            os.close(fd)

    def kill(self) -> None:
        """Have the helper end the tree; one that the job stopped is continued for it."""
        if self._ask(KILL):
            os.kill(self.helper_pid, SIGCONT)

    def signal_main(self, signal: int) -> bool:
        return self._ask(SIGNAL, signal)

    def pause(self) -> Callable[[], object] | None:
        self._ask(STOP)
        self.usage()  # answered in order, so the tree has been stopped when this returns
        return None

    def resume(self) -> None:
        self._ask(CONTINUE)

    def usage(self) -> Any:
        """A USAGE notice, or None when the helper ended or is ``lost``: it does not answer."""
        import select

        if self.lost or not self._ask(USAGE):
            return None
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        for _ in range(ANSWER_TURNS):
            while poller.poll(ANSWER_PATIENCE_MS):
                notice = self._read()
                if notice is None or notice.kind == USAGE_NOTICE:
                    return notice
                self._notices.append(notice)
            os.kill(self.helper_pid, SIGCONT)
        self.lost = True
        return None

    def destroy(self) -> None:
        """End a helper that is lost, and what can be seen of its tree."""
        self.lost = True
        for pid in [*self.members(), self.helper_pid]:
            try:
                os.kill(pid, SIGKILL)
            except (ProcessLookupError, PermissionError):  # it has ended, or is another user's by now
                continue

    def cpu_ns(self) -> int | None:
        notice = self.usage()
        return None if notice is None else (notice.tree_user_us + notice.tree_system_us) * 1000

    def members(self) -> list[int]:
        """Process ids below the helper, the helper itself left out."""
        import psutil

        try:
            return [child.pid for child in psutil.Process(self.helper_pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def look_at_box(self) -> Any:
        """Whether anybody of the job is left, and what it used: a ``struct sup_event``, or None where no cgroup knows."""
        return None

    def main_pid(self, notice: Any) -> int:
        """The main process's id as this process sees it, of a STARTED notice."""
        return int(notice.pid)

    def said_all(self) -> None:
        """It has said how the job ended: what comes next is its own end, which its pidfd tells."""
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._engine.unwatch(self._watch)
            self._watch = None

    def take_listener(self) -> int:
        """The listener of the job's filter, the caller's from now on; -1 when there is none."""
        fd, self.listener_fd = self.listener_fd, -1
        return fd

    def close(self) -> None:
        """Let the control socket go; a helper that still lives ends its tree then."""
        if self.listener_fd >= 0:
            os.close(self.take_listener())
        if self.changes_fd >= 0:
            os.close(self.changes_fd)
            self.changes_fd = -1
        if self.fd >= 0:
            self._unwatch()
            os.close(self.fd)
            self.fd = -1
