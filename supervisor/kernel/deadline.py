# SPDX-License-Identifier: Apache-2.0
"""Deadline: a wall-clock limit that native code watches, so that it holds while the event loop is blocked."""

from __future__ import annotations

import os

from supervisor.kernel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.kernel.native import Engine


class Deadline:
    """Owns one deadline of an engine and the descriptors through which its thread sees and ends the job.

    Must be closed before the engine.
    """

    __slots__ = ("_pointer", "due_ns")

    def __init__(self, pointer: Any) -> None:
        """``pointer``: a ``struct sup_deadline *`` of native code; raises OSError with its errno when there is none."""
        self.due_ns = 0
        self._pointer: Any = pointer
        if pointer == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    @classmethod
    def of_process(cls, engine: Engine, pidfd: int, cgroup_fd: int, kill: bool) -> Deadline:
        """A main process's; with ``kill`` its cgroup is ended when it still runs then. Raises OSError when it cannot be had."""
        return cls(lib.sup_deadline_new(engine.pointer, pidfd, cgroup_fd, kill))

    @classmethod
    def of_helper(cls, engine: Engine, control_fd: int) -> Deadline:
        """A tree's that an init helper holds, which is told to end it. Raises OSError when it cannot be had."""
        return cls(lib.sup_deadline_of_helper(engine.pointer, control_fd))

    def set(self, due_ns: int | None) -> None:
        """When (CLOCK_MONOTONIC); None while there is none, as in a pause."""
        self.due_ns = due_ns or 0
        lib.sup_deadline_set(self._pointer, self.due_ns)

    def close(self) -> bool:
        """Stop watching; True when the job, or the helper that holds it, still ran at its deadline."""
        pointer, self._pointer = self._pointer, ffi.NULL
        return pointer != ffi.NULL and bool(lib.sup_deadline_free(pointer))
