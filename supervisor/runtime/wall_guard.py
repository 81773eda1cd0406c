# SPDX-License-Identifier: Apache-2.0
"""WallGuard: the wall-clock limit of one job, watched by native code because whoever drives the job may be late."""

from __future__ import annotations

from supervisor.kernel.deadline import Deadline
from supervisor.kernel.tree import CgroupTree, HelperTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.kernel.native import Engine
    from supervisor.runtime.end import End


class WallGuard:
    """Owns the native deadline of one job: it ends the job in time, and knows afterwards whether the job was over before."""

    __slots__ = ("_at_once", "_deadline", "_of_helper")

    def __init__(self, engine: Engine, tree: CgroupTree | HelperTree, end: End, at_once: bool) -> None:
        """``at_once``: the job is killed at its deadline; otherwise it gets a signal first, and that is the driver's.

        Raises OSError when native code cannot watch.
        """
        self._at_once = at_once
        self._of_helper = isinstance(tree, HelperTree)
        self._deadline: Deadline | None = None
        if isinstance(tree, CgroupTree):
            if tree.pidfd >= 0:
                self._deadline = Deadline.of_process(engine, tree.pidfd, tree.cgroup.fd, at_once)
        elif at_once and end.status is None:  # otherwise a helper says by itself when the main process ended, however late it is heard
            self._deadline = Deadline.of_helper(engine, tree.fd)

    def set(self, due_ns: int | None) -> None:
        """When the limit falls due (CLOCK_MONOTONIC); None while it does not, as in a pause."""
        if self._deadline is not None:
            self._deadline.set(due_ns)

    def judge(self, end: End) -> int:
        """The main process was reaped, perhaps long after its end: when it was killed for its limit, or 0 when it was not.

        An end that came in time and was seen late is put right in ``end``. Nothing is watched any more.
        """
        if self._deadline is None:
            return 0
        due_ns = self._deadline.due_ns
        overran = self._deadline.close()
        self._deadline = None
        if self._of_helper:
            overran = overran and end.ended_ns >= due_ns  # the helper may still have been busy with the rest of the tree
        elif not overran and due_ns:
            end.ended_ns = min(end.ended_ns, due_ns)
        return due_ns if overran and self._at_once else 0

    def close(self) -> None:
        """Stop watching; safe to call twice."""
        if self._deadline is not None:
            self._deadline.close()
            self._deadline = None
