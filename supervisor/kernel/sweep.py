# SPDX-License-Identifier: Apache-2.0
"""The sweep: end and remove what a dead supervisor of ours left in the cgroup tree, and nothing else.

A directory of ours carries a mark (the extended attribute ``user.ringfence``, Linux 5.7) that names its
owner, and a lock (flock) that the kernel drops when the owner dies, however it dies. It is swept when the
lock is free, or when the owner it names is gone for certain: a job can hold the lock, but not bring its
supervisor back to life. What is not marked is somebody else's, whatever its name. Only an empty directory
named after a process that is gone is removed without a mark, as rmdir(2) does it, which ends nobody: a
supervisor was killed before it could leave one.
"""

from __future__ import annotations

import errno
import os

from supervisor.kernel import native
from supervisor.kernel.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PREFIX: Final = "ringfence-"
SCOPE_PREFIX: Final = "ringfence-run-"
MARK: Final = "user.ringfence"
#: How long a killed tree may take to die; a task that cannot is given up.
KILL_PATIENCE_MS: Final = 5000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def new_name() -> str:
    """A name for a directory of this process."""
    return f"{PREFIX}{os.getpid()}-{native.now_ns() % 1_000_000_000:09d}"


def looks_ours(name: str) -> bool:
    """The name is of the form that :func:`new_name` makes; whether it is really ours only its mark tells."""
    pid, _, number = name.removeprefix(PREFIX).partition("-")
    return name.startswith(PREFIX) and pid.isdecimal() and number.isdecimal() and len(number) == 9


def mark(path: str) -> None:
    """Name this process as the owner; a kernel without attributes on cgroups leaves it unmarked, and so unswept."""
    try:
        os.setxattr(path, MARK, _owner(os.getpid()).encode())
    except OSError:
        pass


def _read_mark(path: int) -> str:
    try:
        return os.getxattr(path, MARK).decode("ascii", "replace")
    except OSError:
        return ""


def _owner(pid: int) -> str:
    """Which process this is, for all time: its pid namespace, its id there and when it started (proc_pid_stat(5))."""
    fields = native.read_path(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return f"{os.stat('/proc/self/ns/pid').st_ino} {pid} {fields[19]}"


def _owner_is_gone(owner: str) -> bool:
    words = owner.split()
    if len(words) != 3 or not words[1].isdecimal() or words[0] != str(os.stat("/proc/self/ns/pid").st_ino):
        return False
    try:
        return _owner(int(words[1])) != owner
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False


def sweep(base: str) -> int:
    """Kill and remove what is marked as ours in ``base`` and belongs to no living supervisor; returns how many."""
    swept = 0
    try:
        names = [name for name in os.listdir(base) if looks_ours(name)]
    except OSError:
        return 0
    for name in names:
        try:
            fd = os.open(os.path.join(base, name), _DIRECTORY)
        except OSError:
            continue
        owner = _read_mark(fd)
        if owner and (native.lock(fd, wait=False) or _owner_is_gone(owner)):
            swept += _sweep_one(base, name, fd)
            continue
        if not owner and _maker_is_gone(name) and native.lock(fd, wait=False):
            swept += _remove_empty(os.path.join(base, name))
        os.close(fd)
    return swept


def _maker_is_gone(name: str) -> bool:
    """No process here has the number in the name. One elsewhere that comes to lock what it has just made makes another."""
    return not os.path.exists(f"/proc/{name.removeprefix(PREFIX).partition('-')[0]}")


def _remove_empty(path: str) -> int:
    try:
        os.rmdir(path)
    except OSError:  # processes or directories are in it: somebody else's, or gone
        return 0
    return 1


def sweep_scopes(beside: str) -> int:
    """Sweep inside the scopes that dead commands of this user left beside the scope ``beside``; empty ones systemd removes."""
    folder = os.path.dirname(beside)
    try:
        names = [name for name in os.listdir(folder) if name.startswith(SCOPE_PREFIX) and name.endswith(".scope")]
    except OSError:
        return 0
    return sum(sweep(os.path.join(folder, name)) for name in names)


def _sweep_one(base: str, name: str, fd: int) -> int:
    try:
        base_fd = os.open(base, _DIRECTORY)
    except OSError:
        os.close(fd)
        return 0
    dead = Cgroup(base_fd, name, fd)
    try:
        dead.kill()
        dead.wait_empty(KILL_PATIENCE_MS)
        dead.remove()
    except OSError as error:
        if error.errno != errno.ENOENT:
            return 0
    finally:
        os.close(base_fd)
        if dead.fd >= 0:  # not removed, for one reason or another
            os.close(dead.fd)
    return 1
