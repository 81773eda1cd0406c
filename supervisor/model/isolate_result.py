# SPDX-License-Identifier: Apache-2.0
"""An outcome as isolate tells it: the meta file, the line for people, the exit status (isolate(1), META-FILES)."""

from __future__ import annotations

from supervisor.model.outcome import Verdict
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.isolate_options import IsolateOptions
    from supervisor.model.outcome import Outcome

#: isolate's exit statuses: the program ended well; it did not; the sandbox itself failed.
FINE: Final = 0
NOT_FINE: Final = 1
BROKEN: Final = 2
#: What a program that cannot be executed exits with in a box.
NOT_EXECUTED: Final = 127


@value
class IsolateResult:
    """What isolate would say: the text of the meta file, one line for standard error, the exit status."""

    meta: str
    line: str
    status: int


def isolate_result(options: IsolateOptions, outcome: Outcome, interrupted: int = 0) -> IsolateResult:
    """Say an outcome in isolate's words; ``interrupted`` is the signal that made us end the program, 0 for none.

    The keys come in isolate's order: measured values first, except for a program that had to be killed.
    """
    stats = _stats(options, outcome)
    if outcome.verdict == Verdict.START_FAILED and outcome.error is not None and outcome.error.stage == "exec":
        text = f"Exited with error status {NOT_EXECUTED}"
        return _ended(stats, f"exitcode:{NOT_EXECUTED}", "RE", text)
    if outcome.error is not None or outcome.verdict == Verdict.HOST_OOM:
        return broken_result(outcome.summary())
    if interrupted:
        return _killed(stats, "SG", "Interrupted", f"exitsig:{interrupted}\n")
    if outcome.killed and outcome.verdict == Verdict.CPU_LIMIT:
        return _killed(stats, "TO", "Time limit exceeded")
    if outcome.killed and outcome.verdict == Verdict.WALL_LIMIT:
        return _killed(stats, "TO", "Time limit exceeded (wall clock)")
    if _over(outcome.usage.cpu_ns, options.time_ns):
        return _ended(stats, "", "TO", "Time limit exceeded")
    if _over(outcome.usage.wall_ns, options.wall_time_ns):
        return _ended(stats, "", "TO", "Time limit exceeded (wall clock)")
    signal, code = outcome.exit.signal, outcome.exit.code
    if signal is not None:
        return _ended(stats, f"exitsig:{signal}", "SG", f"Caught fatal signal {signal}")
    if code:
        return _ended(stats, f"exitcode:{code}", "RE", f"Exited with error status {code}")
    times = f"{_milliseconds(outcome.usage.cpu_ns)} sec real, {_milliseconds(outcome.usage.wall_ns)} sec wall"
    return IsolateResult(meta=f"{stats}exitcode:0\n", line=f"OK ({times})", status=FINE)


def broken_result(message: str) -> IsolateResult:
    """The sandbox itself failed: status XX."""
    line = " ".join(message.split())
    return IsolateResult(meta=f"status:XX\nmessage:{line}\n", line=line, status=BROKEN)


def _killed(stats: str, status: str, message: str, first: str = "") -> IsolateResult:
    return IsolateResult(meta=f"{first}status:{status}\nmessage:{message}\nkilled:1\n{stats}", line=message, status=NOT_FINE)


def _ended(stats: str, exit_line: str, status: str, message: str) -> IsolateResult:
    exit_line = exit_line and exit_line + "\n"
    return IsolateResult(meta=f"{stats}{exit_line}status:{status}\nmessage:{message}\n", line=message, status=NOT_FINE)


def _stats(options: IsolateOptions, outcome: Outcome) -> str:
    used = outcome.usage
    rss, peak = used.rss_peak_main_bytes, used.memory_peak_bytes
    oom_killed = options.cg and outcome.killed and "memory_max" in outcome.limits_hit
    lines = [
        ("time", _milliseconds(used.cpu_ns)),
        ("time-wall", _milliseconds(used.wall_ns)),
        ("max-rss", None if rss is None else rss >> 10),
        ("csw-voluntary", used.context_switches_voluntary),
        ("csw-forced", used.context_switches_involuntary),
        ("cg-mem", None if peak is None or not options.cg else peak >> 10),
        ("cg-oom-killed", 1 if oom_killed else None),
    ]
    return "".join([f"{key}:{text}\n" for key, text in lines if text is not None])


def _milliseconds(ns: int | None) -> str:
    """Seconds with three decimals, rounded down; a program that never ran has used none."""
    ms = (ns or 0) // 1_000_000
    return f"{ms // 1000}.{ms % 1000:03d}"


def _over(used_ns: int | None, limit_ns: int) -> bool:
    """Above the limit in whole milliseconds, isolate's resolution."""
    return bool(limit_ns) and used_ns is not None and used_ns // 1_000_000 > limit_ns // 1_000_000
