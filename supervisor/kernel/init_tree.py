# SPDX-License-Identifier: Apache-2.0
"""The tree of a strict sandbox: held by the init helper as process 1 of a pid namespace, and by a cgroup where there is one."""

from __future__ import annotations

import os

from supervisor.errors import CgroupError
from supervisor.kernel import native
from supervisor.kernel.tree import KILL, MAPPED, SIGKILL, HelperTree, still_freezing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.native import Engine


class InitTree(HelperTree):
    """Owns our end of the helper's control socket and the job's cgroup, if there is one.

    ``box`` is the cgroup below the job's own that the job is in and the helper is not, so freezing and counting
    leave the helper out.
    """

    __slots__ = ("_main_pid", "box", "cgroup")

    def __init__(self, engine: Engine, token: int, fd: int, helper_pid: int, cgroup: Cgroup | None, box: str) -> None:
        super().__init__(engine, token, fd, helper_pid)
        self.cgroup = cgroup
        self.box = box
        self._main_pid = 0

    def kill(self) -> None:
        """SIGKILL to the whole tree, by its cgroup and by the helper to its namespace; neither lets a fork escape.

        A helper that somebody outside stopped is continued for it.
        """
        if self.cgroup is not None:
            try:
                self.cgroup.write(f"{self.box}/cgroup.kill", "1")
            except CgroupError:
                pass  # before Linux 5.14: the helper does it alone
        super().kill()

    def pause(self) -> Callable[[], object] | None:
        if self.cgroup is None:
            return super().pause()
        self.cgroup.freeze(True, self.box)
        return still_freezing(self.cgroup, self.box)

    def resume(self) -> None:
        if self.cgroup is None:
            super().resume()
        else:
            self.cgroup.freeze(False, self.box)

    def cpu_ns(self) -> int | None:
        if self.cgroup is None:
            return super().cpu_ns()
        from supervisor.model.stats import parse_flat_keyed  # loaded while the job runs

        usage = parse_flat_keyed(self.cgroup.read(f"{self.box}/cpu.stat") or "").get("usage_usec")
        return None if usage is None else usage * 1000

    def look_at_box(self) -> Any:
        return None if self.cgroup is None else native.look_at_cgroup(self.cgroup.fd, self.box)

    def members(self) -> list[int]:
        return super().members() if self.cgroup is None else self.cgroup.members(self.box)

    def destroy(self) -> None:
        """End the helper, and with it everything in its namespace."""
        self.lost = True
        try:
            os.kill(self.helper_pid, SIGKILL)
        except ProcessLookupError:
            pass

    def map_ids(self, users: str, groups: str) -> None:
        """Write the helper's id maps, for which it waits, as only root may; what goes wrong is told by the helper, which then ends."""
        try:
            native.write_path(f"/proc/{self.helper_pid}/uid_map", users)
            native.write_path(f"/proc/{self.helper_pid}/gid_map", groups)
        except OSError:
            self._ask(KILL)
        else:
            self._ask(MAPPED)

    def main_pid(self, notice: Any) -> int:
        return self._main_pid or self._look_for_main()

    def take_listener(self) -> int:
        self._main_pid = self._look_for_main()  # born already: when it starts there is more to do
        return super().take_listener()

    def _look_for_main(self) -> int:
        """Its first child, as the host numbers it (/proc/PID/task/TID/children, CONFIG_PROC_CHILDREN); 0 when that is not told."""
        try:
            children = native.read_path(f"/proc/{self.helper_pid}/task/{self.helper_pid}/children").split()
        except OSError:
            return 0
        return int(children[0]) if children else 0
