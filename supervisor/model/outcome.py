# SPDX-License-Identifier: Apache-2.0
"""Outcome: what a job came to. The shape of section 3.2 of the contract, version 1."""

from __future__ import annotations

from supervisor.model.units import format_bytes_human, format_duration_human
from supervisor.model.value import plain, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from supervisor.model.transfer import Collected


class Verdict:
    """The one-word cause of an end; ``outcome.verdict`` holds one of these texts."""

    OK: Final = "ok"
    NONZERO_EXIT: Final = "nonzero_exit"
    SIGNALED: Final = "signaled"
    CPU_LIMIT: Final = "cpu_limit"
    WALL_LIMIT: Final = "wall_limit"
    IDLE_LIMIT: Final = "idle_limit"
    MEMORY_LIMIT: Final = "memory_limit"
    TASKS_LIMIT: Final = "tasks_limit"
    OUTPUT_LIMIT: Final = "output_limit"
    DISK_LIMIT: Final = "disk_limit"
    FILE_SIZE_LIMIT: Final = "file_size_limit"
    SYSCALL_DENIED: Final = "syscall_denied"
    CANCELLED: Final = "cancelled"
    START_FAILED: Final = "start_failed"
    HOST_OOM: Final = "host_oom"
    SANDBOX_ERROR: Final = "sandbox_error"

    ALL: Final = (
        OK,
        NONZERO_EXIT,
        SIGNALED,
        CPU_LIMIT,
        WALL_LIMIT,
        IDLE_LIMIT,
        MEMORY_LIMIT,
        TASKS_LIMIT,
        OUTPUT_LIMIT,
        DISK_LIMIT,
        FILE_SIZE_LIMIT,
        SYSCALL_DENIED,
        CANCELLED,
        START_FAILED,
        HOST_OOM,
        SANDBOX_ERROR,
    )
    #: One of the job's own limits ended it.
    LIMITS: Final = frozenset(name for name in ALL if name.endswith("_limit")) | {SYSCALL_DENIED}


@value
class Exit:
    """How the main process ended: an exit code or a signal, never both; ``core``: it dumped core."""

    code: int | None = None
    signal: int | None = None
    core: bool = False


@value
class Usage:
    """What the job used, tree and all where the source allows it; unknown is ``None``, never 0.

    Times are nanoseconds, sizes bytes. ``wall_ns`` runs from exec to exit and includes pauses
    (``paused_ns``); ``start_latency_ns`` is the set-up before exec, never charged to the job.
    """

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    wall_ns: int | None = None
    paused_ns: int = 0
    memory_peak_bytes: int | None = None
    memory_anon_bytes: int | None = None
    memory_file_bytes: int | None = None
    swap_peak_bytes: int | None = None
    rss_peak_main_bytes: int | None = None
    tasks_peak: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    throttled_ns: int | None = None
    context_switches_voluntary: int | None = None
    context_switches_involuntary: int | None = None
    pressure: Mapping[str, Mapping[str, int]] = {}
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    start_latency_ns: int | None = None


@value
class StartError:
    """Why a job did not start, or what went wrong around it: the step, the errno, one line for people."""

    stage: str
    errno: int
    message: str


@value
class Change:
    """What a job did to one file of an overlay. ``path``: where the job saw it. ``kind``: ``added``, ``changed`` or ``deleted``;
    of a deleted directory what was in it is not named. ``file_type``: ``file``, ``directory``, ``link`` or ``other``.
    ``size_bytes``: of a regular file that is there.
    """

    path: str
    kind: str
    file_type: str
    size_bytes: int | None = None


@value
class Outcome:
    """What a job came to: the verdict, the evidence in short, the usage with its sources.

    ``killed``: the supervisor or the kernel ended it on behalf of a limit or a request.
    ``limits_hit``: every limit touched, the cause first. ``sources``: usage field → where the number
    came from. ``enforcement``: limit → the mechanism that held it (and ``tree``: what held the tree).
    ``denied_syscalls``: how often the job's filter denied each system call. ``changes``: what the job did to overlays with
    ``changes="list"``, by path; ``None`` without one, and where it could not be read.
    ``stdout`` and ``stderr`` are the collected bytes (or text), ``None`` when not collected; ``collected``: files, where asked for.
    """

    verdict: str
    exit: Exit = Exit()
    killed: bool = False
    limits_hit: tuple[str, ...] = ()
    usage: Usage = Usage()
    sources: Mapping[str, str] = {}
    enforcement: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()
    error: StartError | None = None
    denied_syscalls: Mapping[str, int] = {}
    changes: tuple[Change, ...] | None = None
    args: tuple[str | bytes, ...] = ()
    stdout: Any = None
    stderr: Any = None
    truncated: bool = False
    collected: Collected | None = None

    @property
    def ok(self) -> bool:
        """The job ran to its end, exited 0 and broke no limit."""
        return self.verdict == Verdict.OK

    @property
    def returncode(self) -> int | None:
        """subprocess's return code: the exit code, or minus the signal; ``None`` when nothing ran."""
        return self.exit.code if self.exit.signal is None else -self.exit.signal

    def exit_status(self) -> int:
        """What ``ringfence run`` exits with: the command's own, 128+N, 124 a limit, 125 to 127 not run."""
        if self.verdict == Verdict.START_FAILED:
            return _start_status(self.error)
        if self.verdict == Verdict.SANDBOX_ERROR:
            return 125
        if self.verdict in Verdict.LIMITS:
            return 124
        if self.exit.signal is not None:
            return 128 + self.exit.signal
        return self.exit.code if self.exit.code is not None else 125

    def summary(self) -> str:
        """One line for people: the verdict and what explains it."""
        if self.error is not None:
            return f"{self.verdict}: {self.error.message}"
        parts = [self.verdict]
        if self.limits_hit:
            parts.append("(" + ", ".join(self.limits_hit) + ")")
        if self.exit.signal is not None:
            parts.append(f"signal {self.exit.signal}" + (", core dumped" if self.exit.core else ""))
        elif self.exit.code:
            parts.append(f"exit {self.exit.code}")
        if self.denied_syscalls:
            parts.append("denied " + ", ".join(list(self.denied_syscalls)[:3]))
        used = self.usage
        if used.cpu_ns is not None:
            parts.append(f"cpu {format_duration_human(used.cpu_ns)}")
        if used.wall_ns is not None:
            parts.append(f"wall {format_duration_human(used.wall_ns)}")
        if used.memory_peak_bytes is not None:
            parts.append(f"memory {format_bytes_human(used.memory_peak_bytes)}")
        return " ".join(parts)

    def to_dict(self, *, streams: bool = False) -> dict[str, Any]:
        """The outcome as JSON-ready data; with ``streams`` the collected output too."""
        made = {
            "version": 1,
            "verdict": self.verdict,
            "exit": plain(self.exit),
            "killed": self.killed,
            "limits_hit": list(self.limits_hit),
            "usage": plain(self.usage),
            "sources": dict(self.sources),
            "enforcement": dict(self.enforcement),
            "warnings": list(self.warnings),
            "error": plain(self.error),
            "denied_syscalls": dict(self.denied_syscalls),
            "changes": None if self.changes is None else [_json_change(change) for change in self.changes],
        }
        if self.collected is not None:
            made["collected"] = self.collected.to_dict()
        if streams:
            made |= {"stdout": _json_text(self.stdout), "stderr": _json_text(self.stderr), "truncated": self.truncated}
        return made


def _start_status(error: StartError | None) -> int:
    if error is None or error.stage != "exec":
        return 125
    return 127 if error.errno in (2, 20) else 126  # ENOENT, ENOTDIR; a missing interpreter is reported as ENOEXEC


def _json_change(change: Change) -> object:
    return {**plain(change), "path": change.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")}


def _json_text(captured: object) -> object:
    if not isinstance(captured, (bytes, bytearray)):
        return captured
    try:
        return captured.decode("utf-8")
    except UnicodeDecodeError:
        import binascii

        return {"base64": binascii.b2a_base64(captured, newline=False).decode("ascii")}
