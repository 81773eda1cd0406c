# SPDX-License-Identifier: Apache-2.0
"""Processes that a job left to us by killing its init helper: only a command that has no other children may adopt them."""

from __future__ import annotations

import os

from supervisor.kernel import native
from supervisor.kernel.native import lib

ROUNDS = 1000
SIGKILL = 9


def adopt() -> None:
    """Become the sub-reaper (prctl(2), PR_SET_CHILD_SUBREAPER) of everything below; raises OSError."""
    native.check(lib.sup_become_subreaper())


def end_strays() -> int:
    """Kill and reap every child of this process until none comes any more; returns how many there were.

    One that we may not kill, because it is another user's by now, is left.
    """
    ended, left = 0, set[int]()
    for _ in range(ROUNDS):
        children = {int(pid) for task in os.listdir("/proc/self/task") for pid in _children(task)} - left
        if not children:
            break
        for pid in children:
            try:
                os.kill(pid, SIGKILL)  # ours and not yet reaped, so the number is still theirs
            except PermissionError:
                left.add(pid)
                continue
            os.waitpid(pid, 0)
            ended += 1
    return ended


def _children(task: str) -> list[str]:
    try:
        return native.read_path(f"/proc/self/task/{task}/children").split()
    except OSError:
        return []
