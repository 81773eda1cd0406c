# SPDX-License-Identifier: Apache-2.0
"""Session, the pure part: which limits a session can have as a whole, where its commands work, what is recorded of each."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.sandbox import BASIC, NONE, Bind
from supervisor.model.value import plain, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from supervisor.model.changes import FileChange
    from supervisor.model.limits import Limits
    from supervisor.model.outcome import Outcome
    from supervisor.model.sandbox import Sandbox

WORK: Final = "/work"
#: Limits of the whole that a cgroup around the commands holds.
SHARED: Final = frozenset(
    "memory_min memory_low memory_high memory_max memory_swap_max tasks_max cpu_quota cpu_quota_period cpu_weight io_weight "
    "io_read_bandwidth_max io_write_bandwidth_max io_read_iops_max io_write_iops_max".split()
)
#: Limits of the whole that are counted down.
SPENT: Final = frozenset({"cpu_time_max", "wall_time_max"})
CHECKED: Final = "disk_max"


def check_session_limits(limits: Limits, best_effort: frozenset[str]) -> None:
    """Raises :class:`ConfigError` naming every limit that makes no sense for a session as a whole."""
    problems = [
        f"limits: {name} is of one process or one command; give it in command_limits"
        for name in limits.given()
        if name not in SHARED | SPENT and name != CHECKED
    ]
    if limits.disk_max is not None and CHECKED not in best_effort:
        problems.append("limits: disk_max of a session is looked at after each command, no more; name it in best_effort if that will do")
    if problems:
        raise ConfigError(*problems)


def in_work(sandbox: Sandbox | None, path: str) -> tuple[Sandbox | None, str]:
    """The sandbox with the work directory in it, and the directory's path as the job sees it."""
    if sandbox is None or sandbox.level == NONE:
        return sandbox, path
    if sandbox.level == BASIC:  # named, so that what may be written does not hang on where a command begins
        named = path == "/" or path.startswith("/dev/") or any(place.target == path for place in sandbox.bind)
        return (sandbox if named else replace(sandbox, bind=(Bind(source=path, mode="rw"), *sandbox.bind))), path
    if any(place.target == WORK for place in (*sandbox.bind, *sandbox.overlay)):
        raise ConfigError(f"sandbox: {WORK} is where the work directory is; bind elsewhere")
    return replace(sandbox, bind=(Bind(source=path, target=WORK, mode="rw"), *sandbox.bind)), WORK


@value
class Record:
    """What one command of a session was and came to. Times are nanoseconds; ``began_ns`` is since 1970.

    ``files``: what changed in the work directory meanwhile; ``files_complete`` is false when a cap ended one of the looks.
    ``kept``: commands of the session that have left something running. ``session_cpu_ns``: used by the session so far.
    """

    number: int
    began_ns: int
    outcome: Outcome
    files: tuple[FileChange, ...] = ()
    files_complete: bool = True
    kept: int = 0
    session_cpu_ns: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the outcome without the output, and the rest beside it."""
        outcome = self.outcome
        return {
            "number": self.number,
            "began_ns": self.began_ns,
            "args": [_text(item) for item in outcome.args],
            "verdict": outcome.verdict,
            "exit": plain(outcome.exit),
            "killed": outcome.killed,
            "limits_hit": list(outcome.limits_hit),
            "usage": plain(outcome.usage),
            "denied_syscalls": dict(outcome.denied_syscalls),
            "warnings": list(outcome.warnings),
            "error": plain(outcome.error),
            "files": [change.to_dict() for change in self.files],
            "files_complete": self.files_complete,
            "kept": self.kept,
            "session_cpu_ns": self.session_cpu_ns,
        }


def _text(item: str | bytes) -> Any:
    from supervisor.model.transfer import json_name

    return json_name(item if isinstance(item, str) else item.decode("utf-8", "surrogateescape"))


def blame(outcome: Outcome, hits: tuple[int, int], before: tuple[int, int]) -> Outcome:
    """The outcome of a command that met the session's own limit, which looks to it like the host's."""
    memory, tasks = (now > then for now, then in zip(hits, before, strict=True))
    if memory and outcome.verdict == "host_oom":
        return _reached(outcome, "memory_limit", "memory_max")
    if tasks and outcome.verdict in ("nonzero_exit", "signaled"):
        return _reached(outcome, "tasks_limit", "tasks_max")
    return outcome


def _reached(outcome: Outcome, verdict: str, limit: str) -> Outcome:
    hit = tuple(dict.fromkeys((limit, *outcome.limits_hit)))
    return replace(outcome, verdict=verdict, limits_hit=hit, warnings=(*outcome.warnings, f"{limit} is the session's"))


def session_environment(work: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """A small clean environment with ``given`` over it; HOME is the work directory."""
    from supervisor.model.confine import CLEAN_ENV

    return {**{name.decode(): text.decode() for name, text in CLEAN_ENV.items()}, "HOME": work, **(given or {})}
