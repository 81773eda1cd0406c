# SPDX-License-Identifier: Apache-2.0
"""The launch of a job that a template forks: its cgroup before, its pidfd after; see native/template.c."""

from __future__ import annotations

import errno
import os

from supervisor.kernel import native
from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.launch import complete_hooks
from supervisor.kernel.native import STAGE_NUMBERS, ffi, lib
from supervisor.kernel.pack import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.plan import LaunchPlan

#: A forked worker keeps the template's dispositions, streams and descriptors: it is Python all along.
OF_AN_EXEC: Final = frozenset({"signals", "terminal", "cgroup", "stdio", "close_fds", "pass_fd"})

#: After SIGKILL nobody takes that long.
EMPTY_MS: Final = 5000


def fork_block(plan: LaunchPlan) -> bytes:
    """The plan for the template: the hooks that have a meaning without an exec."""
    hooks = complete_hooks(plan.hooks, {}, os.getpid())
    return pack(plan, tuple([hook for hook in hooks if hook.stage not in OF_AN_EXEC]))


class ForkLaunch:
    """Owns the cgroup of a job that is about to be forked, until :meth:`forked` hands it over."""

    __slots__ = ("_block", "_job", "_root_fd", "child", "leaf_fd")

    def __init__(self, plan: LaunchPlan, block: bytes, root_fd: int, job: int) -> None:
        """Make the cgroup; ``child.err`` says whether that failed, and then nothing is left."""
        self.child = ffi.new("struct sup_child *")
        self._block = block
        self._root_fd = root_fd
        self._job = job
        self.leaf_fd = -1
        if lib.sup_prepare_cgroup(block, len(block), root_fd, job, self.child) == 0:
            try:
                self.leaf_fd = os.open(plan.cgroup_leaf or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.child.cgroup_fd)
            except OSError as error:
                self._failed("cgroup_create", error.errno or 0, 0)

    def forked(self, pid: int, stage: int, number: int, index: int) -> Any:
        """The ``struct sup_child`` of what came of it; a child whose hook failed is reaped, and the cgroup removed.

        ``pid`` is below 0 when there is none, or the template died before it could say: ``number`` is the errno.
        """
        os.close(self.leaf_fd)
        self.child.started_ns = native.now_ns()
        if pid > 0 and not _is_child(pid):  # a template gone wrong: no process of others is waited for, or ended
            pid, stage, number = -1, STAGE_NUMBERS["clone"], errno.ECHILD
        if pid > 0 and number == 0:
            try:
                self.child.pidfd = native.open_pidfd(pid)
            except OSError as error:
                os.kill(pid, 9)
                stage, number = STAGE_NUMBERS["clone"], error.errno or 0
        if number == 0:
            self.child.pid, self.child.into_cgroup = pid, 1
        else:
            if pid > 0:
                os.waitpid(pid, 0)
            else:
                self._end_unnamed()
            self._failed(native.STAGES[stage], number, index)
        return self.child

    def _end_unnamed(self) -> None:
        """A template that dies between the fork and its answer leaves a child of ours behind, which only its cgroup knows."""
        cgroup = Cgroup(self._root_fd, f"job-{self._job}", self.child.cgroup_fd)
        pids = cgroup.members()
        if not pids:
            return
        cgroup.kill()
        for pid in pids:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue  # the child's own child
        cgroup.wait_empty(EMPTY_MS)

    def _failed(self, stage: str, number: int, index: int) -> None:
        os.close(self.child.cgroup_fd)
        lib.sup_remove_cgroup(self._block, self._root_fd, self._job)
        self.child.cgroup_fd = self.child.pid = self.child.pidfd = -1
        self.child.stage, self.child.err, self.child.index = STAGE_NUMBERS[stage], number or 5, index


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def template_fork(block: bytes, leaf_fd: int) -> tuple[int, int, int, int]:
    """In a template: copy this process into ``leaf_fd``. (0, 0, 0, 0) in the child; in the template what :meth:`ForkLaunch.forked` takes.

    CPython must be told before and after, as os.fork does: ``PyOS_BeforeFork`` and its like.
    """
    report = ffi.new("int32_t[3]")
    pid = lib.sup_template_fork(block, len(block), leaf_fd, report)
    if pid < 0:
        return -1, STAGE_NUMBERS["clone"], -pid, 0
    return pid, report[0], report[1], report[2]
