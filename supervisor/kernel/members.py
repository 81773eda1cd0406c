# SPDX-License-Identifier: Apache-2.0
"""The single processes of a job's tree: signal each, or tell whether one belongs to it."""

from __future__ import annotations

import os

from supervisor.kernel import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.kernel.tree import Tree


def signal_members(tree: Tree, number: int) -> int:
    """Signal every process of the tree and return how many were; one born meanwhile may be missed.

    A number is bound to its process by a pidfd before the tree is asked again, so a process that took over the number of a
    member that has ended is never signalled. Without members that can be seen, the main process alone is signalled.
    One that is another user's by now is passed over; raises OSError when the main process is, too.
    """
    held: dict[int, int] = {}
    try:
        for pid in tree.members():
            try:
                held[pid] = native.open_pidfd(pid)
            except OSError:
                continue  # it has ended
        signalled = [pid for pid in tree.members() if pid in held and _signalled(held[pid], number)]
    finally:
        for fd in held.values():
            os.close(fd)
    if not signalled:
        return int(tree.signal_main(number))
    return len(signalled)


def _signalled(pidfd: int, number: int) -> bool:
    try:
        return native.send_signal(pidfd, number)
    except PermissionError:
        return False


def is_member(tree: Tree, pid: int) -> bool:
    """The process lives and is of the tree, now."""
    return pid > 0 and pid in tree.members()
