# SPDX-License-Identifier: Apache-2.0
"""End: the facts of a job's end as they come in, before anything is concluded from them."""

from __future__ import annotations

from supervisor.kernel.native import STAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class End:
    """What is known of a job's end so far; filled in as it comes, read once."""

    __slots__ = (
        "asked",
        "cgroup_us",
        "disk",
        "empty",
        "ended_ns",
        "helper_ended",
        "main_maxrss_kib",
        "main_minor_faults",
        "main_system_us",
        "main_user_us",
        "paused_at",
        "paused_ns",
        "peaks",
        "requested_ns",
        "spawner_rss_kib",
        "start_failure",
        "started_ns",
        "status",
        "stolen",
        "switches",
        "tree_us",
        "unreaped",
        "warnings",
    )

    def __init__(self) -> None:
        self.status: tuple[int, int] | None = None  # of the main process: the code or signal, and the detail of the event
        self.start_failure: tuple[str, int, int] | None = None
        self.asked = False  # to end, by a signal that it may take as it likes
        self.empty = False
        self.helper_ended = False  # and its namespace with it; its cgroup may still count somebody
        self.unreaped = False
        self.stolen = False
        self.requested_ns = self.started_ns = self.ended_ns = 0
        self.main_user_us = self.main_system_us = self.main_maxrss_kib = self.main_minor_faults = 0
        self.spawner_rss_kib = 0
        self.switches: tuple[int, int] | None = None
        self.tree_us: tuple[int, int] | None = None
        self.cgroup_us: tuple[int, int, int] | None = None
        self.disk: tuple[int, int, int] | None = None  # bytes, free bytes and free files of a sandbox's own file system
        self.paused_at: int | None = None
        self.paused_ns = 0
        self.warnings: list[str] = []
        self.peaks: dict[str, int] = {}  # of a sampler

    def take_exit(self, event: Any) -> None:
        """The main process was reaped (EXITED)."""
        self.status = event.code, event.detail
        self.stolen = event.detail < 0
        self.ended_ns = event.time_ns
        self.main_user_us, self.main_system_us = event.user_us, event.system_us
        self.main_maxrss_kib, self.main_minor_faults = event.maxrss_kib, event.minor_faults
        self.switches = event.voluntary_switches, event.involuntary_switches
        self.take_cgroup(event)

    def take_cgroup(self, event: Any) -> None:
        """The main process, or the init helper, was reaped (EXITED): what the job's cgroup had counted, once it is empty."""
        if event.populated == 0 and event.cgroup_us[0] >= 0:
            self.cgroup_us = (event.cgroup_us[0], event.cgroup_us[1], event.cgroup_us[2])

    def take_notice(self, notice: Any) -> None:
        """The init helper reaped the main process and ended its tree (ENDED)."""
        self.status = (notice.code, notice.detail) if notice.detail >= 0 else None  # it could not be ended
        self.ended_ns = notice.time_ns
        self.main_user_us, self.main_system_us = notice.user_us, notice.system_us
        self.main_maxrss_kib, self.main_minor_faults = notice.maxrss_kib, notice.minor_faults
        self.spawner_rss_kib = 0  # the helper started it, whose own peak is less than any program's
        self.switches = notice.voluntary_switches, notice.involuntary_switches
        self.tree_us = (notice.tree_user_us, notice.tree_system_us)
        if notice.disk_bytes:
            self.disk = (notice.disk_bytes, notice.disk_free_bytes, notice.disk_free_files)
        self.unreaped = notice.left > 0

    def take_failure(self, notice: Any) -> None:
        """The init helper says which step failed (FAILED); one that says a step there is none of has itself failed."""
        known = 0 < notice.stage < len(STAGES)
        self.start_failure = (STAGES[notice.stage] if known else "helper", notice.err, max(notice.index, 0))
