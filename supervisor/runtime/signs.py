# SPDX-License-Identifier: Apache-2.0
"""Signs: what a running service says of itself, by the notification protocol, a descriptor, or its log."""

from __future__ import annotations

import asyncio
import os

from supervisor.kernel.native import close_given, now_ns
from supervisor.kernel.notify_socket import NotifySocket
from supervisor.kernel.streams import open_pipe
from supervisor.model.check import FdCheck, LogCheck
from supervisor.model.notification import parse_notification
from supervisor.model.sandbox import NONE, Bind
from supervisor.model.service_state import ServiceResult, ServiceState
from supervisor.model.spec import STDOUT
from supervisor.model.state import JobState
from supervisor.model.value import replace
from supervisor.runtime.log_tap import LogTap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.notification import Notification
    from supervisor.model.service import ServiceSpec
    from supervisor.model.spec import JobSpec, Text
    from supervisor.runtime.attempt import Attempt
    from supervisor.runtime.job import Job

#: What belongs to us if we are a service ourselves, and must not reach ours (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)).
OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "READY_FD", "MAINPID")
DATAGRAMS_PER_TURN: Final = 32
NOTES_MAX: Final = 16
FINEST_S: Final = 0.001


def own_environment(job_spec: JobSpec) -> dict[Any, Text]:
    """What a service's jobs get: the specification's environment, a clean one where its sandbox asks for it, else ours without ``OURS``."""
    if job_spec.env is not None:
        return {**job_spec.env}
    if job_spec.sandbox is not None and job_spec.sandbox.clear_env:
        from supervisor.model.confine import CLEAN_ENV

        return {**CLEAN_ENV, **{name: os.environ[name] for name in job_spec.sandbox.keep_env if name in os.environ}}
    return {name: text for name, text in os.environ.items() if name not in OURS}


class Signs:
    """Owns the notification socket, the readiness pipe and the log taps of one run, and its watchdog.

    ``job_spec`` is the job's specification with its ends of all that. After the launch call :meth:`release`, then
    :meth:`listen`.
    """

    def __init__(self, spec: ServiceSpec, job_spec: JobSpec, attempt: Attempt) -> None:
        """Raises OSError; nothing is left open then."""
        self._spec = spec
        self._attempt = attempt
        self._job: Job | None = None
        self._socket: NotifySocket | None = None
        self._ready_fd = self._ready_end = -1
        self._taps: list[LogTap] = []
        self._watchdog: asyncio.TimerHandle | None = None
        self._watchdog_s: float = spec.watchdog_sec
        self._alive_ns = 0  # of time that it was not paused
        self._said: set[str] = set()
        try:
            self.job_spec = self._open(job_spec)
        except BaseException:
            self.close()
            raise

    def _open(self, job_spec: JobSpec) -> JobSpec:
        added: dict[str, str] = {}
        changes: dict[str, Any] = {}
        if self._spec.notifies:
            sandbox = job_spec.sandbox
            confined = sandbox is not None and sandbox.level != NONE  # it may have a network, a /tmp and a /run of its own
            self._socket = NotifySocket(in_file_system=confined)
            added["NOTIFY_SOCKET"] = self._socket.address
            if sandbox is not None and confined:
                changes["sandbox"] = replace(sandbox, bind=(*sandbox.bind, Bind(source=self._socket.address)))
        if self._spec.watchdog_sec:
            added["WATCHDOG_USEC"] = str(round(self._spec.watchdog_sec * 1e6))
        if isinstance(self._spec.ready, FdCheck):
            self._ready_fd, self._ready_end = open_pipe()
            os.set_blocking(self._ready_fd, False)
            added["READY_FD"] = str(self._ready_end)
            changes["pass_fds"] = (*job_spec.pass_fds, self._ready_end)
        if isinstance(self._spec.ready, LogCheck):
            changes |= self._tap(self._spec.ready.pattern, job_spec)
        if added:
            changes["env"] = {**(job_spec.env or {}), **added}
        return replace(job_spec, **changes) if changes else job_spec

    def _tap(self, pattern: str, job_spec: JobSpec) -> dict[str, int]:
        ends: dict[str, int] = {}
        for number, name in ((1, "stdout"), (2, "stderr")):
            target: int | None = getattr(job_spec, name)
            if target != STDOUT:
                tap = LogTap(pattern, number if target is None else target, self._attempt.became_ready)
                self._taps.append(tap)
                ends[name] = tap.end
        return ends

    def release(self) -> None:
        """The job has its ends, or never will: give back ours of them."""
        if self._ready_end >= 0:
            os.close(self._ready_end)
            self._ready_end = -1
        for tap in self._taps:
            tap.release()

    def listen(self, job: Job) -> None:
        """The job runs: hear what it has to say, from its first word on."""
        self._job = job
        loop = asyncio.get_running_loop()
        if self._socket is not None:
            loop.add_reader(self._socket.fileno(), self._on_datagrams, self._socket)
        if self._ready_fd >= 0:
            loop.add_reader(self._ready_fd, self._on_ready_fd)
        for tap in self._taps:
            tap.start()

    # ---- a byte on a descriptor ----

    def _on_ready_fd(self) -> None:
        try:
            said = os.read(self._ready_fd, 4096)
        except BlockingIOError:
            return
        self._close_ready_fd()
        if said:
            self._attempt.became_ready()
        else:
            self._attempt.end(ServiceResult.PROTOCOL)

    def _close_ready_fd(self) -> None:
        if self._ready_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._ready_fd)
            os.close(self._ready_fd)
            self._ready_fd = -1

    # ---- the notification protocol ----

    def _on_datagrams(self, notify_socket: NotifySocket) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            received = notify_socket.receive()
            if received is None:
                return
            datagram, fds = received
            try:
                if self._is_ours(datagram.pid):
                    self._take(parse_notification(datagram.raw))
                else:
                    self._note(f"a notification from process {datagram.pid}, which is not of this service, is passed over")
            finally:
                for fd in fds:
                    close_given(fd)  # FDSTORE keeps nothing here, and a BARRIER waits for just this
            if self._socket is None:
                return

    def _is_ours(self, pid: int) -> bool:
        job = self._job
        if job is None or pid <= 0:
            return False
        return pid == job.pid or (self._spec.notify_access == "all" and job.owns(pid))

    def _take(self, said: Notification) -> None:
        attempt = self._attempt
        if said.status is not None:
            attempt.said(said.status)
        if said.extend_timeout_us is not None:
            attempt.extended(said.extend_timeout_us / 1e6)
        if said.watchdog_us is not None and self._spec.watchdog_sec:
            self._watchdog_s = said.watchdog_us / 1e6
            if self._watchdog is not None:
                self.start_watchdog()
        if said.watchdog:
            self._alive_ns = self._awake_ns()
        if said.reloading:
            attempt.changed_state(ServiceState.RELOADING)
        if said.ready:
            attempt.changed_state(ServiceState.ACTIVE)
            if self._spec.type == "notify":
                attempt.became_ready()
        if said.stopping:
            attempt.changed_state(ServiceState.DEACTIVATING)
        if said.refused:
            self._note(f"{', '.join(said.refused)} in a notification is not followed")
        if said.watchdog_trigger and self._spec.watchdog_sec:
            attempt.end(ServiceResult.WATCHDOG)

    def _note(self, message: str) -> None:
        """Once each, and only so many: strangers and hostile services must not fill the log."""
        if message not in self._said and len(self._said) < NOTES_MAX:
            self._said.add(message)
            self._attempt.noted(message)

    # ---- the watchdog ----

    def start_watchdog(self) -> None:
        """From now on the service must say ``WATCHDOG=1`` in time; without effect when its specification has no watchdog."""
        if self._watchdog_s > 0:
            self._alive_ns = self._awake_ns()
            self._arm_watchdog(self._watchdog_s)

    def _awake_ns(self) -> int:
        """The time, as a clock shows it that stands still while the job is paused: the frozen cannot give a sign."""
        paused = 0 if self._job is None else self._job.paused_ns
        return int(now_ns()) - paused

    def _arm_watchdog(self, seconds: float) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._on_watchdog)

    def _on_watchdog(self) -> None:
        """A sign of life only notes its time, so that a chatty service costs no timers."""
        left = self._watchdog_s - (self._awake_ns() - self._alive_ns) / 1e9
        if left <= 0:
            self._attempt.end(ServiceResult.WATCHDOG)
        else:
            paused = self._job is not None and self._job.state == JobState.PAUSED
            self._arm_watchdog(max(left, FINEST_S) if not paused else self._watchdog_s)

    def close(self) -> None:
        """Stop listening and close everything; safe to call twice."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        self.release()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._close_ready_fd()
        for tap in self._taps:
            tap.close()
            if tap.error:
                self._attempt.noted(tap.error)
        self._taps.clear()
