# SPDX-License-Identifier: Apache-2.0
"""SessionCgroup: one cgroup around the cgroups of a session's commands, with limits of its own."""

from __future__ import annotations

import os

from supervisor.errors import CgroupError
from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.cgroup_root import CgroupRoot
from supervisor.model.stats import parse_flat_keyed, parse_single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.enforce import CgroupWrite

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
KILL_PATIENCE_MS: Final = 5000


class SessionCgroup:
    """Owns the directory ``name`` below ``above`` and the cgroups of commands that left something running.

    ``root`` is where the commands' cgroups are made. Raises :class:`CgroupError` when a limit cannot be written or
    reads back otherwise; nothing is left then.
    """

    def __init__(self, above: CgroupRoot, name: str, writes: tuple[CgroupWrite, ...]) -> None:
        path = os.path.join(above.base, above.name)
        os.mkdir(name, 0o755, dir_fd=above.fd)
        try:
            fd = os.open(name, _FOLDER, dir_fd=above.fd)
        except OSError:
            os.rmdir(name, dir_fd=above.fd)
            raise
        self.root = CgroupRoot(path, name, fd, above.facts)
        self._cgroup = Cgroup(above.fd, name, fd)
        self.kept: list[Cgroup] = []
        try:
            for controller in sorted(above.facts.controllers):
                self._cgroup.write("cgroup.subtree_control", f"+{controller}")
            for write in writes:
                self._write(write)
        except BaseException:
            self.root.close()
            raise

    def _write(self, write: CgroupWrite) -> None:
        self._cgroup.write(write.file, write.text)
        if write.expect and write.expect not in (self._cgroup.read(write.file) or ""):
            raise CgroupError(34, f"reads back otherwise than the {write.text!r} written", f"{self.root.name}/{write.file}", "verify")

    def keep(self, cgroup: Cgroup) -> None:
        """A command has ended and what it left behind stays, in its own cgroup and inside its limits."""
        self.kept.append(cgroup)

    def prune(self) -> int:
        """Remove the kept cgroups whose last process has ended; returns how many are left."""
        left = []
        for cgroup in self.kept:
            if cgroup.is_populated():
                left.append(cgroup)
            else:
                cgroup.remove()
        self.kept = left
        return len(left)

    def end_kept(self) -> list[str]:
        """SIGKILL what was kept and wait until it is gone; what could not be ended, in words."""
        problems = []
        for cgroup in self.kept:
            try:
                cgroup.kill()
                cgroup.wait_empty(KILL_PATIENCE_MS)
                cgroup.remove()
            except OSError as error:
                problems.append(f"what a command left running could not be ended: {error}")
        self.kept = []
        return problems

    def cpu_ns(self) -> int | None:
        """Processor time of everything that ran in it."""
        usage = parse_flat_keyed(self._cgroup.read("cpu.stat") or "").get("usage_usec")
        return None if usage is None else usage * 1000

    def peaks(self) -> tuple[int | None, int | None]:
        """Most memory in bytes and most tasks at once; None where the host does not count them."""
        return parse_single(self._cgroup.read("memory.peak") or ""), parse_single(self._cgroup.read("pids.peak") or "")

    def hits(self) -> tuple[int, int]:
        """How often its own memory limit ran out, and its own limit of tasks refused a fork."""
        memory = parse_flat_keyed(self._cgroup.read("memory.events.local") or "").get("oom", 0)
        local = self._cgroup.read("pids.events.local")  # Linux 6.10; before that pids.events counts at the limit itself
        tasks = parse_flat_keyed(local if local is not None else self._cgroup.read("pids.events") or "").get("max", 0)
        return memory, tasks

    def close(self) -> None:
        """Remove the directory; the commands must be gone."""
        self.end_kept()
        self.root.close()
