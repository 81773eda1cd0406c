# SPDX-License-Identifier: Apache-2.0
"""Launching: one job between its plan and its first process."""

from __future__ import annotations

import os

from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.launch import HELPER, HelperLaunch, direct_block, spawn_forked
from supervisor.kernel.native import STAGES
from supervisor.kernel.tree import CgroupTree, HelperTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.kernel.cgroup_root import CgroupRoot
    from supervisor.kernel.held_signals import HeldSignals
    from supervisor.kernel.native import Engine
    from supervisor.kernel.streams import Streams
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.spec import JobSpec


class Launching:
    """Owns what one launch needs until it is over: the packed plan, the helper's descriptors, the job's ends of its streams.

    :meth:`launch` or :meth:`submit`, then :meth:`failure`, and :meth:`tree` when there was none.
    """

    __slots__ = ("_alive", "_block", "_engine", "_helper", "_plan", "_root", "_spec", "_streams", "_token")

    def __init__(self, engine: Engine, token: int, spec: JobSpec, plan: LaunchPlan, root: CgroupRoot | None, streams: Streams) -> None:
        """Raises OSError when a descriptor cannot be had; nothing of this is left open then."""
        self._engine = engine
        self._token = token
        self._spec = spec
        self._plan = plan
        self._root = root
        self._streams = streams
        self._helper: HelperLaunch | None = None
        self._alive: Any = None
        self._block = self._make_block()

    def _make_block(self) -> bytes:
        if self._spec.sandbox is not None and self._spec.sandbox.overlay:
            from supervisor.kernel.files import make_upper

            for overlay in self._spec.sandbox.overlay:
                make_upper(overlay)
        if self._root is None or self._plan.setup_count:
            program = self._engine.sealed_program(HELPER) if self._plan.setup_count else -1
            self._helper = HelperLaunch(self._plan, self._streams.sources, program)
            return self._helper.block
        return direct_block(self._plan, self._streams.sources)

    @property
    def is_direct(self) -> bool:
        """The child is the job itself, not an init helper."""
        return self._helper is None

    def launch(self, held: HeldSignals | None) -> tuple[Any, str]:
        """Launch on the calling thread (it sleeps until exec) and watch the child.

        ``held``: no handler may raise between the child's birth and the caller's note of it; only Python hooks need it. Returns the
        ``struct sup_child`` and, when a Python hook raised, its exception as text. Raises OSError when a fork for Python hooks
        fails, and what the handler of a signal raises while they run; everything is given back then.
        """
        root_fd = self._root_fd
        if not self._spec.preexec:
            return self._engine.launch(self._token, self._block, root_fd), ""
        assert held is not None
        try:
            child, message = spawn_forked(self._block, root_fd, self._token, self._plan.cgroup_leaf, self._spec.preexec, held)
        except BaseException:
            self.abandon()
            raise
        self.adopt(child)
        return child, message

    @property
    def _root_fd(self) -> int:
        return -1 if self._root is None else self._root.fd

    def submit(self) -> None:
        """Launch on the engine's spawner threads; a SPAWNED event follows."""
        sandbox = self._spec.sandbox
        lend = bool(self._plan.setup_count) and sandbox is not None and sandbox.network == "none"
        self._alive = self._engine.submit(self._token, self._block, self._root_fd, lend)

    def adopt(self, child: Any) -> None:
        """Watch a child that we or a template have forked; one that cannot be watched is ended, and ``child.err`` says why."""
        if child.err == 0:
            self._engine.adopt(self._token, self._block, self._root_fd, child)

    def abandon(self) -> None:
        """It will not be launched: give everything back; safe to call twice."""
        self._let_go()
        if self._helper is not None:
            os.close(self._helper.control_fd)
            self._helper = None

    def _let_go(self) -> None:
        self._streams.release()
        self._block, self._alive = b"", None
        if self._helper is not None:
            self._helper.release()

    def failure(self, child: Any, message: str) -> tuple[str, int, int, str] | None:
        """The launch is over: stage, errno, index and message of what failed, or None when the child runs."""
        self._let_go()
        if child.err == 0:
            return None
        stage = STAGES[child.stage]
        if self._helper is not None:
            os.close(self._helper.control_fd)
            if stage == "exec":  # not the command: the helper's own program
                stage, message = "helper", f"the init helper cannot be run: {os.strerror(child.err)}"
        return stage, child.err, child.index, message

    def tree(self, child: Any) -> CgroupTree | HelperTree:
        """What holds the new tree from now on."""
        cgroup = None if self._root is None else Cgroup(self._root.fd, f"job-{self._token}", child.cgroup_fd)
        if self._helper is None:
            assert cgroup is not None
            return CgroupTree(cgroup, child.pidfd)
        if not self._plan.setup_count:
            return HelperTree(self._engine, self._token, self._helper.control_fd, child.pid)
        from supervisor.kernel.init_tree import InitTree

        tree = InitTree(self._engine, self._token, self._helper.control_fd, child.pid, cgroup, self._plan.cgroup_payload)
        if self._plan.user_map is not None:
            tree.map_ids(*self._plan.user_map)
        return tree
