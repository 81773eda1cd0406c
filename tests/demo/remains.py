# SPDX-License-Identifier: Apache-2.0
"""What is left behind: processes and cgroups that a run should have taken with it.

The demo makes itself a sub-reaper, so a process that outlives its ``ringfence run`` becomes our child
and cannot hide, whatever it does to its environment; the marker in the environment finds the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

VARIABLE = "RINGFENCE_DEMO"  # names the scratch folder in the environment of everything we start
PR_SET_CHILD_SUBREAPER = 36
SCOPE_PATIENCE_S = 3.0


def become_subreaper() -> bool:
    """Orphans of our children become our own; False when the kernel does not do that."""
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap() -> None:
    """Collect orphans that are dead already. Call only while no child is being waited for elsewhere."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def is_alive(pid: int, marker: str) -> bool:
    """The process exists, is no zombie and is one of ours: it may be another one under an old number."""
    state = _state(pid)
    return state is not None and state[0] not in "ZX" and (_carries(pid, marker) or state[1] == os.getpid())


def processes(marker: str) -> list[str]:
    """Living processes of ours in words: those with the marker in environment or command line, and adopted orphans."""
    reap()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid() and is_alive(int(name), marker):
            found.append(f"process {name} ({_read(int(name), 'comm').decode('ascii', 'replace').strip()})")
    return found


def kill_processes(marker: str) -> None:
    """End what :func:`processes` finds: the demo leaves nothing behind even when Ringfence did."""
    for text in processes(marker):
        try:
            os.kill(int(text.split()[1]), signal.SIGKILL)
        except ProcessLookupError:
            continue
    reap()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""  # gone, or somebody else's


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process, or None when there is none."""
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return (fields[0].decode("ascii"), int(fields[1])) if len(fields) > 1 else None


def _carries(pid: int, marker: str) -> bool:
    """Its environment or its command line names our scratch folder."""
    wanted = marker.encode("ascii")
    return wanted in _read(pid, "environ") or wanted in _read(pid, "cmdline")


def cgroups(pids: list[int]) -> list[str]:
    """Cgroups that supervisors with these process ids made and that still exist, in words.

    systemd removes a user's scope a moment after its last process: wait for that.
    """
    deadline = time.monotonic() + SCOPE_PATIENCE_S
    while (found := _cgroups(pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _cgroups(pids: list[int]) -> list[str]:
    ours = tuple(text for pid in pids for text in (f"ringfence-{pid}-", f"ringfence-run-{pid}.scope"))
    found = []
    for mount in _mounts():
        for folder, folders, _files in os.walk(mount):
            found += [f"cgroup {folder}/{name}" for name in folders if name.startswith(ours)]
    return found


def _mounts() -> list[str]:
    """Where cgroup v2 is mounted."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [line.split(" ")[4] for line in lines if line.partition(" - ")[2].startswith("cgroup2 ")]
