# SPDX-License-Identifier: Apache-2.0
"""What must be the same before and after every hostile job: files, mounts, IPC, folders, processes, cgroups."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import facts
from conftest import own_cgroups
from own import children

PROGRAMS = Path(__file__).parent / "programs"
HOST_FILES = ("/etc/passwd", "/etc/group", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/bin/sh")
#: Folders in which something might be left; on a machine with other work only the virtual machine's are quiet.
FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")


class Surroundings:
    """What stood on the host at first, to compare with."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary
        self._first = self._read()
        self._children = set(children())
        self._begun = time.clock_gettime(time.CLOCK_BOOTTIME)

    def assert_unchanged(self) -> None:
        """Fail with every difference, and with every process, zombie and cgroup that is left of a job."""
        now = self._read()
        problems = [f"{name}: {self._first[name]} became {now[name]}" for name in now if self._first[name] != now[name]]
        problems += [f"process: {child}" for child in children() if child not in self._children]
        problems += [f"process: {name}" for name in _strangers(self._begun)]
        base = facts.cgroup_base()
        if base is not None:
            problems += [f"cgroup: {path}" for name in own_cgroups() for path in base.glob(f"{name}/job-*")]
        assert not problems, "left behind or changed: " + "; ".join(problems)

    def _read(self) -> dict[str, object]:
        found: dict[str, object] = {name: _digest(Path(name)) for name in HOST_FILES}
        found |= {str(path): _digest(path) for path in sorted(self._canary.rglob("*"))}
        found["canary"] = sorted(os.listdir(self._canary))
        found["mounts"] = Path("/proc/self/mountinfo").read_text()
        found["host name"] = os.uname().nodename
        if facts.missing("vm") == "":
            found |= {folder: sorted(os.listdir(folder)) for folder in FOLDERS}
            found |= {name: Path(f"/proc/sysvipc/{name}").read_text() for name in ("shm", "sem", "msg")}
        return found


def _strangers(since: float) -> list[str]:
    """Living processes younger than ``since`` that a job may have been, of whomever; only the quiet machine can tell."""
    if facts.missing("vm"):
        return []
    names = {path.stem[:15] for path in PROGRAMS.iterdir()} | {"ringfence-init", "sh", "sleep", "cat", "yes", "head"}
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stat = Path("/proc", pid, "stat").read_text(errors="replace")
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        age = int(rest.split()[19]) / os.sysconf("SC_CLK_TCK")
        python = name.startswith("python") and int(pid) != os.getpid()
        if age > since and rest.split()[0] not in "ZX" and (name in names or python):
            found.append(stat[:60])
    return found


def _digest(path: Path) -> str:
    """Bytes, mode and owner of a file, or where a link leads."""
    if path.is_symlink():
        return os.readlink(path)
    try:
        stat, raw = path.stat(), path.read_bytes()
    except OSError as error:
        return str(error.errno)
    return f"{stat.st_mode:o} {stat.st_uid}:{stat.st_gid} {hashlib.sha256(raw).hexdigest()}"
