# SPDX-License-Identifier: Apache-2.0
"""From the facts of an end to the Outcome."""

from __future__ import annotations

from supervisor.kernel.evidence import Reading, read_cgroup
from supervisor.model.classify import CLEAN, Evidence, classify, is_clean
from supervisor.model.outcome import Exit, Outcome, StartError, Usage, Verdict
from supervisor.model.spec import COLLECT, goes_to, passes_through_us
from supervisor.model.value import filled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.kernel.denials import Denials
    from supervisor.kernel.streams import Streams
    from supervisor.kernel.tree import CgroupTree, HelperTree
    from supervisor.model.classify import Finding
    from supervisor.model.host import Host
    from supervisor.model.outcome import Change
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.end import End


PAGE_BYTES: Final = 4096
#: Nobody knows how the main process ended.
UNKNOWN: Final = Exit()
#: Less than a tenth of a sandbox's file system is left.
NEARLY_FULL: Final = 10
UNNAMED: Final = "denied system calls are not named: the kernel has no listener for them, or our own surroundings hold the only one"


def failed_outcome(error: StartError, plan: LaunchPlan, end: End) -> Outcome:
    """The outcome of a job that never ran."""
    return Outcome(
        verdict=Verdict.SANDBOX_ERROR if _is_sandbox_step(error, plan) else Verdict.START_FAILED,
        enforcement=plan.enforcement,
        warnings=(*plan.warnings, *end.warnings),
        error=error,
        args=plan.argv,
        stdout=b"" if goes_to(plan.stdout, COLLECT) else None,
        stderr=b"" if goes_to(plan.stderr, COLLECT) else None,
    )


def _is_sandbox_step(error: StartError, plan: LaunchPlan) -> bool:
    """The sandbox could not be built, as against a job that could not be started in it."""
    if "sandbox" not in plan.enforcement:
        return False
    from supervisor.model.confine import STEPS

    return error.stage in STEPS or (error.stage == "clone" and error.errno != 11)  # EAGAIN: too many processes


def conclude(
    end: End,
    spec: JobSpec,
    plan: LaunchPlan,
    host: Host,
    tree: CgroupTree | HelperTree | None,
    streams: Streams,
    causes: tuple[str, ...],
    denials: Denials | None = None,
) -> Outcome:
    """Read the evidence, decide the verdict, put the outcome together. The tree is empty, its cgroup still there."""
    reading = Reading()
    _read_process(end, reading)
    cgroup = tree.cgroup if tree is not None else None
    if cgroup is not None and host.cgroup is not None:
        top = plan.cgroup_box if plan.cgroup_payload else ""
        leaf = plan.cgroup_payload or plan.cgroup_leaf
        read_cgroup(cgroup, host.cgroup.controllers, plan.cgroup_box, leaf, end.cgroup_us, reading, top)
        if cgroup.unread:
            end.warnings.append(f"some numbers are not known, and a limit that was hit may not be named: {cgroup.unread}")
    _read_streams(plan, streams, reading)
    end.warnings += streams.losses()
    if end.peaks:
        for name, field in (("memory_max", "memory_peak_bytes"), ("tasks_max", "tasks_peak")):
            if field not in reading.usage:
                reading.put(field, end.peaks.get(name), "sampled every 50 ms (psutil)")
    ended = _exit(end)
    error = None
    if end.stolen:
        message = "the exit status went to another waiter of this process, or SIGCHLD is ignored in it"
        error = StartError(stage="wait", errno=10, message=message)
        end.unreaped = True
    elif ended is None and not end.unreaped:
        error = StartError(stage="helper", errno=3, message="the init helper was killed, so the job's end is not known")
        end.unreaped = True
    elif end.unreaped:
        fate = "is left to a later sweep" if cgroup is not None else "lives on"
        error = StartError(stage="kill", errno=16, message=f"a process of the job cannot be killed; it {fate}")
    usage = filled(Usage, reading.usage)
    changes = _changes(end, spec, tree)
    finding = _find(end, ended, plan, host, reading, usage, causes, denials is not None)
    if plan.syscall_filter is not None:
        end.warnings += [UNNAMED] if denials is None else [overflow] if (overflow := denials.overflow()) else []
    if end.disk is not None and finding.verdict in (Verdict.NONZERO_EXIT, Verdict.SIGNALED):
        end.warnings += _disk_warnings(plan, *end.disk)
    if finding.verdict == Verdict.START_FAILED:
        from supervisor.kernel.diagnose import too_small_error

        error = too_small_error(finding.limits_hit, plan)
    return Outcome(
        verdict=finding.verdict,
        exit=ended or UNKNOWN,
        killed=finding.killed,
        limits_hit=finding.limits_hit,
        usage=usage,
        sources=reading.sources,
        enforcement=plan.enforcement,
        warnings=(*plan.warnings, *end.warnings),
        error=error,
        denied_syscalls={} if denials is None else denials.by_name(),
        changes=changes,
        args=plan.argv,
        stdout=streams.collected(1) if goes_to(plan.stdout, COLLECT) else None,
        stderr=streams.collected(2) if goes_to(plan.stderr, COLLECT) else None,
        truncated=streams.truncated(),
    )


def _exit(end: End) -> Exit | None:
    if end.status is None:
        return None
    code, detail = end.status
    if detail < 0:
        return UNKNOWN
    return filled(Exit, {"code": code} if detail == 0 else {"signal": code, "core": detail == 2})


def _find(
    end: End, ended: Exit | None, plan: LaunchPlan, host: Host, reading: Reading, usage: Usage, causes: tuple[str, ...], listened: bool
) -> Finding:
    disk_full = end.disk is not None and _holds_disk(plan) and end.disk[1] < PAGE_BYTES
    found = bool(causes or reading.oom_kills or reading.tasks_denied or disk_full or end.unreaped)
    if is_clean(ended, found, plan.enforced):
        return CLEAN
    return classify(
        Evidence(
            exit=ended or UNKNOWN,
            causes=causes,
            by_itself=not end.asked and ended is not None and ended.code is not None,  # SIGKILL leaves no code
            limits=plan.limits,
            usage=usage,
            oom_kills=reading.oom_kills,
            oom_local=reading.oom_local,
            tasks_denied=reading.tasks_denied,
            disk_full=disk_full,
            main_minor_faults=end.main_minor_faults if ended is not None else None,
            main_cpu_ns=(end.main_user_us + end.main_system_us) * 1000,
            # where a listener is asked the filter itself kills nobody: then SIGSYS is the job's own affair
            syscall_filter=host.syscall_filter or (plan.syscall_filter is not None and not listened),
            enforced=plan.enforced,
            unreaped=end.unreaped,
        )
    )


def _read_process(end: End, reading: Reading) -> None:
    if end.started_ns:
        ended_ns = end.ended_ns or end.started_ns
        reading.put("wall_ns", ended_ns - end.started_ns, "CLOCK_MONOTONIC, exec to reaped")
        reading.put("start_latency_ns", end.started_ns - end.requested_ns, "CLOCK_MONOTONIC, request to exec")
        open_pause = ended_ns - end.paused_at if end.paused_at is not None else 0
        reading.usage["paused_ns"] = end.paused_ns + max(0, open_pause)
    if end.status is None:
        return
    own = "rusage of the main process and the children it waited for"
    user, system, source = end.main_user_us, end.main_system_us, own
    if end.tree_us is not None:
        (user, system), source = end.tree_us, "rusage summed by the init helper"
    if end.cgroup_us is None or min(end.cgroup_us) < 0:  # else the cgroup's own numbers take their place
        reading.put_all({"cpu_ns": (user + system) * 1000, "cpu_user_ns": user * 1000, "cpu_system_ns": system * 1000}, source)
    if end.switches is not None:
        voluntary, involuntary = end.switches
        reading.put_all({"context_switches_voluntary": voluntary, "context_switches_involuntary": involuntary}, own)
    # exec hands the launching process's peak on to the child's ru_maxrss: only a larger number is the child's own
    if end.main_maxrss_kib > end.spawner_rss_kib:
        reading.put("rss_peak_main_bytes", end.main_maxrss_kib * 1024, "rusage ru_maxrss")


def _holds_disk(plan: LaunchPlan) -> bool:
    """The sandbox's own file system is what holds ``disk_max``."""
    return "disk_max" in plan.enforced and "disk_max" not in plan.sampled


def _disk_warnings(plan: LaunchPlan, size: int, free: int, free_files: int) -> list[str]:
    """A job failed with little room left: that it ran out of it is likely, but nothing says so."""
    limit = "disk_max" if _holds_disk(plan) else "tmp_size"
    found = []
    if free * NEARLY_FULL < size:
        found.append(
            f"the job failed and its file system ({limit}) was {100 - 100 * free // size} % full at the end; it may have run out of space"
        )
    if not free_files:
        found.append("the job failed and its file system had no room for another file (tmp_inodes)")
    return found


def _changes(end: End, spec: JobSpec, tree: CgroupTree | HelperTree | None) -> tuple[Change, ...] | None:
    """What the job did to its overlays; None where nobody asked."""
    if spec.sandbox is None or not any([overlay.changes == "list" for overlay in spec.sandbox.overlay]):
        return None
    fd = getattr(tree, "changes_fd", -1)
    if fd < 0:
        end.warnings.append("what the job changed is not known: the init helper ended before it handed it over")
        return None
    from supervisor.kernel.changes import read_changes

    changes, incomplete = read_changes(fd, spec.sandbox.overlay)
    if incomplete:
        end.warnings.append(f"what the job changed is listed in part: {incomplete}")
    return changes


def _read_streams(plan: LaunchPlan, streams: Streams, reading: Reading) -> None:
    if not streams.counts:
        return
    for number, name, stream in ((1, "stdout_bytes", plan.stdout), (2, "stderr_bytes", plan.stderr)):
        if passes_through_us(stream) or streams.is_read(number):
            reading.put(name, streams.count(number), "counted on the way")
