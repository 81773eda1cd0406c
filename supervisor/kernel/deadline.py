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

    ``kill``: the job is ended when it still runs then. Raises OSError when it cannot be had. Must be closed
    before the engine.
    """

    __slots__ = ("_pointer", "due_ns")

    def __init__(self, engine: Engine, pidfd: int, cgroup_fd: int, kill: bool) -> None:
        self.due_ns = 0
        self._pointer: Any = lib.sup_deadline_new(engine.pointer, pidfd, cgroup_fd, kill)
        if self._pointer == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    def set(self, due_ns: int | None) -> None:
        """When (CLOCK_MONOTONIC); None while there is none, as in a pause."""
        self.due_ns = due_ns or 0
        lib.sup_deadline_set(self._pointer, self.due_ns)

    def close(self) -> bool:
        """Stop watching; True when the job still ran at its deadline."""
        pointer, self._pointer = self._pointer, ffi.NULL
        return pointer != ffi.NULL and bool(lib.sup_deadline_free(pointer))
