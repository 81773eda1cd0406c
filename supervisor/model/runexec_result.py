# SPDX-License-Identifier: Apache-2.0
"""An outcome as runexec prints it: ``key=value`` lines in its order and units (doc/run-results.md of BenchExec 3.35)."""

from __future__ import annotations

from supervisor.model.outcome import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.outcome import Outcome

#: Verdict → why the run was ended from outside; everything else ended by itself.
REASONS: Final = {
    Verdict.CPU_LIMIT: "cputime",
    Verdict.WALL_LIMIT: "walltime",
    Verdict.MEMORY_LIMIT: "memory",
    Verdict.CANCELLED: "killed",
    Verdict.HOST_OOM: "killed",  # not by a limit of the run's own, which "memory" would say
    Verdict.SANDBOX_ERROR: "killed",
    Verdict.START_FAILED: "failed",
}


def format_runexec(outcome: Outcome, start_time: str, soft_limit_hit: bool = False) -> str:
    """The lines that runexec prints for a run; ``start_time`` in ISO 8601. What is not known is left out."""
    reason = termination_reason(outcome, soft_limit_hit)
    if reason == "failed":
        return "terminationreason=failed\n"
    used = outcome.usage
    stalled = {name: used.pressure.get(name, {}).get("some") for name in ("cpu", "io", "memory")}
    lines = [
        ("starttime", start_time, ""),
        ("terminationreason", reason, ""),
        ("returnvalue", outcome.exit.code, ""),
        ("exitsignal", outcome.exit.signal, ""),
        ("walltime", _seconds(used.wall_ns), "s"),
        ("cputime", _seconds(used.cpu_ns), "s"),
        ("memory", used.memory_peak_bytes, "B"),
        ("blkio-read", used.io_read_bytes, "B"),
        ("blkio-write", used.io_write_bytes, "B"),
        *((f"pressure-{name}-some", _seconds(ns), "s") for name, ns in stalled.items()),
    ]
    return "".join([f"{key}={amount}{unit}\n" for key, amount, unit in lines if amount is not None])


def termination_reason(outcome: Outcome, soft_limit_hit: bool = False) -> str | None:
    """runexec's word for who ended the run, or None when it ended by itself, be it above a limit."""
    if outcome.verdict == Verdict.START_FAILED:
        return "failed"
    if soft_limit_hit:
        return "cputime-soft"  # the first reason counts, also when the hard limit came later
    if not outcome.killed:
        return None
    return REASONS.get(outcome.verdict)


def _seconds(ns: int | None) -> str | None:
    """Exactly, without zeros at the end: ``0.001671``, ``2``."""
    if ns is None:
        return None
    whole, rest = divmod(ns, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
