# SPDX-License-Identifier: Apache-2.0
"""LaunchPlan: everything one spawn will do, decided before the kernel is touched.

``make_plan(spec, host, environment)`` is a pure function. Its result names every preexec hook in order,
every step on the cgroup tree, and for every limit who enforces it; what nobody can enforce raises
:class:`UnsupportedError` unless the specification marked it best-effort.
"""

from __future__ import annotations

from supervisor.errors import UnsupportedError
from supervisor.model.enforce import Enforcement, enforce
from supervisor.model.hooks import Hook, make_hooks
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.limits import show_limit
from supervisor.model.spec import DEVNULL, PIPE, RELAY, STDOUT, passes_through_us
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.model.bpf import SyscallFilter
    from supervisor.model.capture import OutputStream
    from supervisor.model.host import Host
    from supervisor.model.limits import Limits
    from supervisor.model.sandbox import Sandbox
    from supervisor.model.spec import JobSpec, Text

#: Weights compare siblings; protections are worth only what every level above grants as well, and a level below has none of its own
#: unless the hierarchy is mounted with memory_recursiveprot (cgroup-v2.rst).
WEIGHTS = frozenset({"cpu.weight", "io.weight"})
PROTECTIONS = frozenset({"memory.min", "memory.low"})
SHARES = WEIGHTS | PROTECTIONS
RLIMIT_CORE = 4
#: At 1 byte the kernel writes no file (less than a page) and starts no handler either (do_coredump() in fs/coredump.c); 0 stops files only.
NO_CORE = Rlimit(soft=1, hard=1)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@value
class CgroupStep:
    """Make the directory ``path`` of the job's cgroup, or write ``text`` to that file and read back ``expect``."""

    path: str
    text: str = ""
    expect: str = ""


@value
class LaunchPlan:
    """Instructions for one spawn. Paths in ``cgroup_steps`` are relative to the job's own cgroup."""

    argv: tuple[bytes, ...]
    env: bytes  # "NAME=value" strings, each ending in NUL
    env_count: int
    paths: tuple[bytes, ...]  # files to try in turn
    hooks: tuple[Hook, ...]
    cgroup_steps: tuple[CgroupStep, ...]
    cgroup_leaf: str  # "" is the job's cgroup itself
    cgroup_box: str  # where the limits are
    stdin: int | None
    stdout: OutputStream
    stderr: OutputStream
    limits: Limits
    enforcement: Mapping[str, str]
    enforced: frozenset[str]  # limits that somebody holds, sampled ones included
    sampled: tuple[str, ...]
    tree: str  # "cgroup"; "holder": the init helper; "init": the init helper as process 1, in the cgroup if there is one
    warnings: tuple[str, ...]
    cgroup_payload: str = ""  # where the init helper puts the job, which is not where it is itself
    namespaces: int = 0  # CLONE_NEW* flags
    user_map: tuple[str, str] | None = None  # uid_map and gid_map that we write for the init helper
    setup_count: int = 0  # the first hooks are the init helper's, which is process 1 then; 0: the job runs all of them
    syscall_filter: SyscallFilter | None = None
    stay_processors: int = 0  # as the host's


@value
class Frame:
    """The part of a plan that many launches share: what depends on limits and surroundings, not on the command."""

    decided: Enforcement
    hooks: tuple[Hook, ...]
    cgroup_steps: tuple[CgroupStep, ...]
    cgroup_leaf: str
    cgroup_box: str
    cgroup_payload: str
    namespaces: int
    setup_count: int
    syscall_filter: SyscallFilter | None
    user_map: tuple[str, str] | None = None


def frame_key(spec: JobSpec) -> tuple[object, ...]:
    """Equal for two specifications whose frames on one host are the same."""
    return (
        spec.limits,
        spec.best_effort,
        spec.credentials,
        spec.working_directory,
        spec.umask,
        spec.nice,
        spec.oom_score_adjust,
        spec.cpu_affinity,
        spec.no_new_privileges,
        spec.start_new_session,
        spec.process_group,
        spec.controlling_terminal,
        spec.pass_fds,
        spec.die_with_parent,
        spec.sandbox,
    )


def make_frame(spec: JobSpec, host: Host) -> Frame:
    """Decide limits, hooks and cgroup steps. Raises as :func:`make_plan`."""
    if spec.sandbox is not None and spec.sandbox.level != "none":
        return _confined_frame(spec, host)
    decided = enforce(spec, host)
    filtered = _syscall_filter(spec.sandbox, host)
    steps, leaf, box = _cgroup_steps(decided, host)
    return Frame(
        decided=decided,
        hooks=make_hooks(spec, host, decided.rlimits, filtered=filtered),
        cgroup_steps=steps,
        cgroup_leaf=leaf,
        cgroup_box=box,
        cgroup_payload="",
        namespaces=0,
        setup_count=0,
        syscall_filter=filtered,
    )


def _confined_frame(spec: JobSpec, host: Host) -> Frame:
    from supervisor.model.confine import confine, inside

    confinement = confine(spec, host)
    filtered = _syscall_filter(spec.sandbox, host)
    decided = enforce(spec, inside(host) if confinement.by_init else host)
    rlimits = {RLIMIT_CORE: NO_CORE, **confinement.rlimits, **decided.rlimits}
    steps, leaf, box = _cgroup_steps(decided, host, for_init=confinement.by_init)
    decided = replace(
        decided,
        enforcement={**decided.enforcement, "sandbox": confinement.words},
        warnings=(*decided.warnings, *confinement.warnings),
    )
    return Frame(
        decided=decided,
        hooks=make_hooks(spec, host, rlimits, confinement, filtered),
        cgroup_steps=steps,
        cgroup_leaf="init" if confinement.by_init and steps else leaf,
        cgroup_box=box,
        cgroup_payload=leaf if confinement.by_init else "",
        namespaces=confinement.namespaces,
        setup_count=len(confinement.setup) if confinement.by_init else 0,
        user_map=confinement.user_map,
        syscall_filter=filtered,
    )


def _syscall_filter(sandbox: Sandbox | None, host: Host) -> SyscallFilter | None:
    """The filter of a sandbox's preset and the changes to it; None where nothing is denied."""
    if sandbox is None or (sandbox.syscalls == "none" and not sandbox.syscalls_deny):
        return None
    from supervisor.model.bpf import compile_filter
    from supervisor.model.seccomp import syscall_profile

    profile = syscall_profile(sandbox.syscalls, sandbox.syscalls_allow, sandbox.syscalls_deny, kill=sandbox.syscalls_kill)
    if profile is None:
        return None
    try:
        return compile_filter(profile, host.machine)
    except KeyError:
        raise UnsupportedError("syscalls", f"there is no table of system calls for {host.machine}") from None


@value
class Environment:
    """Variables, and the block of ``NAME=value`` strings, each ending in NUL, that exec takes."""

    variables: Mapping[bytes, bytes]
    block: bytes


def make_environment(variables: Mapping[bytes, bytes]) -> Environment:
    """Pack variables; keep the result where many jobs share them."""
    return Environment(variables=variables, block=b"".join([b"%b=%b\0" % pair for pair in variables.items()]))


def make_plan(spec: JobSpec, host: Host, own: Environment, frame: Frame | None = None) -> LaunchPlan:
    """Decide everything about one launch.

    ``own`` is the supervisor's own environment, used where the specification has none; ``frame``
    may be kept from an earlier launch with the same :func:`frame_key` on the same host. Raises
    :class:`UnsupportedError` for limits this host cannot enforce, :class:`ConfigError` for limits
    that make no sense on it.
    """
    frame = frame or make_frame(spec, host)
    decided = frame.decided
    if spec.env is None and spec.sandbox is not None and spec.sandbox.clear_env:
        own = _clean_environment(spec.sandbox, own)
    env = own if spec.env is None else make_environment({_encode(name): _encode(text) for name, text in spec.env.items()})
    counted = decided.limits.output_max is not None and spec.controlling_terminal is None  # a terminal is counted at its other side
    return LaunchPlan(
        argv=tuple([_encode(item) for item in spec.argv]),
        env=env.block,
        env_count=len(env.variables),
        paths=_candidates(_encode(spec.argv[0]), env.variables),
        hooks=frame.hooks,
        cgroup_steps=frame.cgroup_steps,
        cgroup_leaf=frame.cgroup_leaf,
        cgroup_box=frame.cgroup_box,
        cgroup_payload=frame.cgroup_payload,
        namespaces=frame.namespaces,
        setup_count=frame.setup_count,
        user_map=frame.user_map,
        stdin=PIPE if spec.input is not None else spec.stdin,
        stdout=_counted(spec.stdout) if counted else spec.stdout,
        stderr=_counted(spec.stderr) if counted else spec.stderr,
        limits=decided.limits,
        enforcement=decided.enforcement
        if frame.syscall_filter is None
        else {**decided.enforcement, "syscalls": f"seccomp filter {frame.syscall_filter.name!r}"},
        enforced=decided.enforced,
        sampled=decided.sampled,
        tree="init" if frame.setup_count else "cgroup" if host.cgroup else "holder",
        warnings=(*decided.warnings, *_uncounted(spec)) if counted else decided.warnings,
        syscall_filter=frame.syscall_filter,
        stay_processors=host.stay_processors,
    )


def _uncounted(spec: JobSpec) -> list[str]:
    named = (("stdout", spec.stdout), ("stderr", spec.stderr))
    return [f"{name} goes to /dev/null, where output_max does not count it" for name, stream in named if stream == DEVNULL]


def _encode(text: Text) -> bytes:
    """As os.fsencode: UTF-8 whatever the locale says, undecodable bytes kept (PEP 383, PEP 540)."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _counted(stream: OutputStream) -> OutputStream:
    """Bytes can be counted only where they pass through us."""
    return stream if passes_through_us(stream) or stream in (DEVNULL, STDOUT) else RELAY


def _candidates(program: bytes, env: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    if b"/" in program:
        return (program,)
    path = env.get(b"PATH", DEFAULT_PATH.encode())
    found = _candidates_of.get((program, path))
    if found is None:
        if len(_candidates_of) >= MEMO_MAX:
            _candidates_of.clear()
        found = _candidates_of[program, path] = tuple([(folder or b".") + b"/" + program for folder in path.split(b":")])
    return found


#: Thousands of jobs of one command share one tuple.
_candidates_of: dict[tuple[bytes, bytes], tuple[bytes, ...]] = {}
MEMO_MAX = 64


def _clean_environment(sandbox: Sandbox, own: Environment) -> Environment:
    from supervisor.model.confine import CLEAN_ENV

    kept = {name: own.variables[name] for name in map(_encode, sandbox.keep_env) if name in own.variables}
    return make_environment({**CLEAN_ENV, **kept})


def _cgroup_steps(decided: Enforcement, host: Host, for_init: bool = False) -> tuple[tuple[CgroupStep, ...], str, str]:
    """The steps, the leaf to be born in and the directory that holds the limits.

    A job with limits gets ``box`` (the limits) and ``box/payload`` (the job, ended as a whole by the
    OOM killer): then ``oom`` counted at ``box`` is the job's own limit, and an ``oom_kill`` without
    it is the host's. Shares count among siblings, so they stand on the job's own directory. A job
    without limits gets one plain cgroup. ``for_init`` adds ``init``, outside the limits, for the init helper; a job
    without limits is then in ``box`` itself.
    """
    if host.cgroup is None:
        return (), "", ""
    memory = "memory" in host.cgroup.controllers
    group = "memory.oom.group"
    job = CgroupStep(path="")
    if not decided.writes and not for_init:
        return ((job, CgroupStep(path=group, text="1", expect="1")) if memory else (job,)), "", ""
    wanted = [name for name in sorted(host.cgroup.controllers) if name != "cpuset" or decided.cpuset]
    steps = [job, *(CgroupStep(path=write.file, text=write.text, expect=write.expect) for write in decided.writes if write.file in SHARES)]
    if wanted:
        steps.append(CgroupStep(path="cgroup.subtree_control", text=" ".join("+" + name for name in wanted)))
    if for_init:
        steps.append(CgroupStep(path="init"))
    steps.append(CgroupStep(path="box"))
    steps += [
        CgroupStep(path=f"box/{write.file}", text=write.text, expect=write.expect) for write in decided.writes if write.file not in WEIGHTS
    ]
    leaf = "box"
    if decided.writes:
        leaf = "box/payload"
        if memory:
            steps.append(CgroupStep(path="box/cgroup.subtree_control", text="+memory"))
        steps.append(CgroupStep(path=leaf))
        steps += [
            CgroupStep(path=f"{leaf}/{write.file}", text=write.text, expect=write.expect)
            for write in decided.writes
            if write.file in PROTECTIONS
        ]
    if memory:
        steps.append(CgroupStep(path=f"{leaf}/{group}", text="1", expect="1"))
    return tuple(steps), leaf, "box"


def explain(plan: LaunchPlan) -> str:
    """The plan for people: each step in order, then who enforces what."""
    lines = ["command: " + " ".join(item.decode("utf-8", "backslashreplace") for item in plan.argv)]
    lines.append("tried:   " + ", ".join(path.decode("utf-8", "backslashreplace") for path in plan.paths))
    lines.append("steps:")
    for step in plan.cgroup_steps:
        where = "job/" + step.path
        lines.append(f"  cgroup               write {step.text!r} to {where}" if step.text else f"  cgroup               make {where}")
    into = ", into job/" + (plan.cgroup_payload or plan.cgroup_leaf) if plan.cgroup_steps else ""
    setup = [f"  {hook.stage:<20} {hook.text}" for hook in plan.hooks[: plan.setup_count]]
    if setup:
        outside = ", into job/" + plan.cgroup_leaf if plan.cgroup_steps else ""
        lines += [f"  clone                the init helper in new namespaces{outside}; it builds the sandbox:", *setup]
    lines.append(f"  clone                clone3 with a pidfd{into if setup or plan.tree == 'cgroup' else ''}")
    lines += [f"  {hook.stage:<20} {hook.text}" for hook in plan.hooks[plan.setup_count :]]
    lines.append("  exec                 execve")
    lines.append("limits:")
    given = plan.limits.given()
    for name, mechanism in plan.enforcement.items():
        shown = show_limit(name, given[name]) if name in given else ""
        lines.append(f"  {name:<22} {shown:<14} {mechanism}")
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines)
