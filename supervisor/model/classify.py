# SPDX-License-Identifier: Apache-2.0
"""classify: from evidence to the verdict, by the rules of section 3.2 of the contract.

Evidence is what the supervisor noted before it acted and what the kernel said afterwards; a bare
signal or exit code is never proof of a limit. The first cause wins, the rest go to ``limits_hit``.
"""

from __future__ import annotations

from supervisor.model.limit_kinds import Rlimit
from supervisor.model.limits import Limits
from supervisor.model.outcome import Exit, Usage, Verdict
from supervisor.model.units import INFINITY
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SIGBUS: Final = 7
SIGKILL: Final = 9
SIGSEGV: Final = 11
SIGXCPU: Final = 24
SIGXFSZ: Final = 25
SIGSYS: Final = 31

#: What a cause that the supervisor noted before it killed means for the verdict.
VERDICT_OF: Final = {
    "cpu_time_max": Verdict.CPU_LIMIT,
    "wall_time_max": Verdict.WALL_LIMIT,
    "idle_time_max": Verdict.IDLE_LIMIT,
    "memory_max": Verdict.MEMORY_LIMIT,
    "tasks_max": Verdict.TASKS_LIMIT,
    "output_max": Verdict.OUTPUT_LIMIT,
    "disk_max": Verdict.DISK_LIMIT,
    "limit_cpu": Verdict.CPU_LIMIT,
    "limit_fsize": Verdict.FILE_SIZE_LIMIT,
    "syscalls": Verdict.SYSCALL_DENIED,
    "cancelled": Verdict.CANCELLED,
}


@value
class Evidence:
    """Everything known about an end. Counters are of the job's own cgroup, ``None`` where unknown.

    ``causes``: what the supervisor noted, in order, each before it acted on it. ``by_itself``: the main process exited, and
    nobody had asked it to: the kill that followed a cause came too late for it. ``oom_kills``: tasks
    of the job that the OOM killer took. ``oom_local``: out-of-memory events at the job's own limit
    (memory.events.local). ``tasks_denied``: forks that pids.max refused. ``disk_full``: the file system that holds ``disk_max``
    had no room left when the job was over. ``main_*``: the rusage of the
    main process and the children it waited for.
    """

    exit: Exit
    causes: tuple[str, ...] = ()
    by_itself: bool = False
    limits: Limits = Limits()
    usage: Usage = Usage()
    oom_kills: int | None = None
    oom_local: int | None = None
    tasks_denied: int | None = None
    disk_full: bool = False
    main_cpu_ns: int = 0
    main_minor_faults: int | None = None
    syscall_filter: bool = False
    enforced: frozenset[str] = frozenset()
    unreaped: bool = False


@value
class Finding:
    """The verdict with everything that was hit, and whether somebody ended the job on that behalf."""

    verdict: str
    limits_hit: tuple[str, ...]
    killed: bool


CLEAN: Final = Finding(verdict=Verdict.OK, limits_hit=(), killed=False)
#: Limits that the final usage can lie above although nobody acted.
OVERDRAWABLE: Final = frozenset({"cpu_time_max", "wall_time_max", "output_max", "memory_max", "tasks_max"})
#: memory.peak may lie this far above memory.max by the kernel's own batching (MEMCG_CHARGE_BATCH, 64 pages a processor).
MEMORY_BATCHES_BYTES: Final = 4 << 20


def is_clean(ended: Exit | None, found: bool, enforced: frozenset[str]) -> bool:
    """A good end with nothing ``found`` against it and no limit that its usage may lie above: the verdict is :data:`CLEAN`.

    For whoever concludes a thousand such ends a second, to spare the rest of the evidence.
    """
    return ended is not None and ended.code == 0 and not found and OVERDRAWABLE.isdisjoint(enforced)


def classify(evidence: Evidence) -> Finding:
    """Decide the verdict; total: every evidence has one."""
    found = bool(evidence.causes or evidence.oom_kills or evidence.tasks_denied or evidence.disk_full or evidence.unreaped)
    if is_clean(evidence.exit, found, evidence.enforced):
        return CLEAN
    noted = [cause for cause in evidence.causes if cause in VERDICT_OF]
    kernel = _kernel_causes(evidence)
    late = [name for name in _overdrawn(evidence) if name not in noted and name not in kernel]
    hit = tuple(dict.fromkeys(name for name in (*noted, *kernel, *late) if name != "cancelled"))
    if "tasks_max" not in hit and _denied_tasks(evidence):
        hit = (*hit, "tasks_max")
    if "disk_max" not in hit and evidence.disk_full:
        hit = (*hit, "disk_max")
    if small := _too_small_to_start(evidence):
        return Finding(verdict=Verdict.START_FAILED, limits_hit=small, killed=True)
    if evidence.unreaped:
        return Finding(verdict=Verdict.SANDBOX_ERROR, limits_hit=hit, killed=True)
    if noted:
        # An OOM kill that came first would have ended the job before any timer of ours could.
        first = kernel[0] if kernel and kernel[0] == "memory_max" and noted[0] == "cancelled" else noted[0]
        if first in hit:
            hit = tuple(dict.fromkeys((first, *hit)))
        return Finding(verdict=VERDICT_OF[first], limits_hit=hit, killed=not evidence.by_itself or bool(evidence.oom_kills))
    if kernel:
        return Finding(verdict=VERDICT_OF[kernel[0]], limits_hit=hit, killed=True)
    if evidence.oom_kills:
        return Finding(verdict=Verdict.HOST_OOM, limits_hit=hit, killed=True)
    if late:
        return Finding(verdict=VERDICT_OF[late[0]], limits_hit=hit, killed=False)
    return Finding(verdict=_own_end(evidence), limits_hit=hit, killed=False)


#: Below these an exec can fail after the point of no return, where the kernel can only kill (fs/exec.c, begin_new_exec).
TOO_SMALL_BYTES: Final = {"memory_max": 4 << 20, "limit_as": 16 << 20, "limit_data": 1 << 20, "limit_stack": 128 << 10}
#: Page faults of a process that did not get through the start of its loader and C library: 3 to 17 were seen under
#: a stack of 4 KiB, 27 take a static program of the C library to main(), 50 a dynamic one.
FAULTS_BEFORE_START: Final = 20


def _too_small_to_start(evidence: Evidence) -> tuple[str, ...]:
    """The limits that left the program no room to begin, when that is how it ended: killed by the kernel with next to no page faults."""
    faults = evidence.main_minor_faults
    if evidence.causes or evidence.exit.signal not in (SIGKILL, SIGSEGV, SIGBUS) or faults is None or faults > FAULTS_BEFORE_START:
        return ()
    small = []
    for name, bound in TOO_SMALL_BYTES.items():
        limit = getattr(evidence.limits, name)
        amount = limit.soft if isinstance(limit, Rlimit) else limit
        if name in evidence.enforced and amount is not None and amount < bound and (name != "memory_max" or evidence.oom_kills):
            small.append(name)
    return tuple(small)


def _own_end(evidence: Evidence) -> str:
    """No limit and nobody else's hand in it: the exit itself, unless a limit that only refuses explains a failure."""
    ended = evidence.exit
    if ended.signal == SIGSYS and evidence.syscall_filter:
        return Verdict.SYSCALL_DENIED
    clean = ended.signal is None and ended.code == 0
    if _denied_tasks(evidence) and not clean:
        return Verdict.TASKS_LIMIT
    if evidence.disk_full and not clean:
        return Verdict.DISK_LIMIT
    if clean:
        return Verdict.OK
    return Verdict.SIGNALED if ended.signal is not None else Verdict.NONZERO_EXIT


def _denied_tasks(evidence: Evidence) -> bool:
    """Forks were refused, and by the job's own limit: old kernels count those of an ancestor's pids.max here too."""
    return bool(evidence.tasks_denied) and evidence.limits.tasks_max not in (None, INFINITY)


def _kernel_causes(evidence: Evidence) -> list[str]:
    """Limits for which the kernel itself ended the job, each by more than the signal alone."""
    causes = []
    limits, ended = evidence.limits, evidence.exit
    if evidence.oom_kills and evidence.oom_local:
        causes.append("memory_max")
    if ended.signal in (SIGXCPU, SIGKILL) and "limit_cpu" in evidence.enforced and _spent_rlimit(evidence, ended.signal):
        causes.append("limit_cpu")
    if ended.signal in (SIGXCPU, SIGKILL) and "cpu_time_max" in evidence.enforced and _overdrew(limits.cpu_time_max, evidence.main_cpu_ns):
        causes.append("cpu_time_max")
    if (
        ended.signal == SIGXFSZ
        and "limit_fsize" in evidence.enforced
        and limits.limit_fsize is not None
        and limits.limit_fsize.soft != INFINITY
    ):
        causes.append("limit_fsize")
    return causes


#: RLIMIT_CPU counts timer ticks, each charged whole to whoever runs; where a hypervisor takes the processor away the
#: count runs ahead of the time used. Seen on a busy virtual machine: the signal of a 1 s limit after 0.58 s.
RLIMIT_CPU_SEEN: Final = 0.4


def _spent_rlimit(evidence: Evidence, signal: int) -> bool:
    """RLIMIT_CPU sends SIGXCPU at the soft and SIGKILL at the hard value, to the process that spent it."""
    limit = evidence.limits.limit_cpu
    if limit is None:
        return False
    bound = limit.soft if signal == SIGXCPU else limit.hard
    return bool(bound != INFINITY and evidence.main_cpu_ns >= bound * 1_000_000_000 * RLIMIT_CPU_SEEN)


def _overdrawn(evidence: Evidence) -> list[str]:
    """Limits that the final usage lies above although nobody acted: ended between limit and check."""
    limits, usage = evidence.limits, evidence.usage
    running = None if usage.wall_ns is None else usage.wall_ns - usage.paused_ns
    pairs = (
        ("cpu_time_max", limits.cpu_time_max, usage.cpu_ns),
        ("wall_time_max", limits.wall_time_max, running),
        ("output_max", limits.output_max, _sum(usage.stdout_bytes, usage.stderr_bytes)),
        ("memory_max", limits.memory_max, None if usage.memory_peak_bytes is None else usage.memory_peak_bytes - MEMORY_BATCHES_BYTES),
        ("tasks_max", limits.tasks_max, usage.tasks_peak),
    )
    return [name for name, limit, used in pairs if name in evidence.enforced and _overdrew(limit, used)]


def _overdrew(limit: int | float | None, used: int | None) -> bool:
    return limit is not None and limit != INFINITY and used is not None and used > limit


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)
