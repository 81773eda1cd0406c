# SPDX-License-Identifier: Apache-2.0
"""Preexec hooks: the ordered steps of the child between clone and exec, as plain values.

Native code (native/child.c) executes them; the stage names are those of its table. The order matters:
limits while there is still privilege to raise them, descriptors before the user changes, the working
directory as the new user, then the parent-death signal, because changing the user clears it, and the
system call filter last, because it holds for hooks too.
"""

from __future__ import annotations

from supervisor.model.limit_kinds import Rlimit
from supervisor.model.units import INFINITY
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from supervisor.model.bpf import SyscallFilter
    from supervisor.model.confine import Confinement
    from supervisor.model.host import Host
    from supervisor.model.spec import JobSpec

ALL_SIGNALS: Final = (1 << 64) - 1
RLIM_INFINITY: Final = (1 << 64) - 1
_PIPE_AND_FILE_SIZE: Final = 1 << (13 - 1) | 1 << (25 - 1)  # ignored by Python itself, never by inheritance
SIGKILL: Final = 9

RLIMIT_NAMES: Final = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()


@value
class Hook:
    """One step: what ``arg``, ``a``, ``b`` and ``data`` mean is said at the stage in native/child.c."""

    stage: str
    text: str
    arg: int = 0
    a: int = 0
    b: int = 0
    data: bytes = b""


def make_hooks(
    spec: JobSpec, host: Host, rlimits: Mapping[int, Rlimit], confinement: Confinement | None = None, filtered: SyscallFilter | None = None
) -> tuple[Hook, ...]:
    """The hooks of a specification in their order; standard streams are added when they are known."""
    setup = confinement.setup if confinement is not None else ()
    return (*setup, *_before_streams(spec, host, rlimits, confinement), *_after_streams(spec, confinement, filtered))


def _before_streams(spec: JobSpec, host: Host, rlimits: Mapping[int, Rlimit], confinement: Confinement | None) -> Iterator[Hook]:
    default = ALL_SIGNALS & ~(host.ignored_signals & ~_PIPE_AND_FILE_SIZE)
    yield Hook(stage="signals", text="default dispositions, nothing blocked", a=_signed(default))
    if spec.start_new_session or spec.controlling_terminal is not None or confinement is not None:
        yield Hook(stage="session", text="a session of its own", arg=1)
    elif spec.process_group:
        yield Hook(stage="session", text="a process group of its own", arg=2)
    if spec.controlling_terminal is not None:
        fd = spec.controlling_terminal
        yield Hook(stage="terminal", text=f"descriptor {fd} becomes the controlling terminal", arg=fd)
    yield Hook(stage="cgroup", text="join by itself, only where clone3 could not")
    if spec.oom_score_adjust is not None and not (confinement is not None and confinement.by_init):
        text = str(spec.oom_score_adjust)
        yield Hook(stage="oom_score_adjust", text=text, data=text.encode())
    if spec.nice is not None:
        yield Hook(stage="nice", text=str(spec.nice), arg=spec.nice)
    if spec.cpu_affinity is not None:
        shown = ",".join(str(cpu) for cpu in spec.cpu_affinity)
        yield Hook(stage="cpu_affinity", text=f"processors {shown}", data=cpu_mask(spec.cpu_affinity))
    for resource, limit in sorted(rlimits.items()):
        text = f"RLIMIT_{RLIMIT_NAMES[resource]} {limit}"
        yield Hook(stage="rlimit", text=text, arg=resource, a=_signed(_raw(limit.soft)), b=_signed(_raw(limit.hard)))
    if spec.umask is not None:
        yield Hook(stage="umask", text=f"{spec.umask:04o}", arg=spec.umask)


def _after_streams(spec: JobSpec, confinement: Confinement | None, filtered: SyscallFilter | None) -> Iterator[Hook]:
    yield Hook(stage="close_fds", text="every descriptor from 3 up closes at exec")
    for fd in spec.pass_fds:
        yield Hook(stage="pass_fd", text=f"except {fd}", arg=fd)
    who = spec.credentials
    if confinement is not None:
        yield from confinement.drop
        who = who if confinement.credentials is None else confinement.credentials
    if who.groups is not None:
        data = b"".join(gid.to_bytes(4, "little") for gid in who.groups)
        yield Hook(stage="supplementary_groups", text=str(list(who.groups)), data=data)
    if who.gid is not None:
        yield Hook(stage="group", text=str(who.gid), a=who.gid)
    if who.uid is not None:
        yield Hook(stage="user", text=str(who.uid), a=who.uid)
    path = spec.working_directory
    if path is None and confinement is not None:
        path = confinement.working_directory
    if path is not None:
        raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
        yield Hook(stage="working_directory", text=raw.decode("utf-8", "backslashreplace"), data=raw + b"\0")
    if confinement is not None:
        yield from confinement.fence
    elif spec.no_new_privileges or filtered is not None:
        yield Hook(stage="no_new_privileges", text="set-user-ID programs gain nothing")
    if spec.die_with_parent:
        yield Hook(stage="parent_death_signal", text="SIGKILL when the supervisor dies", arg=SIGKILL)
    if filtered is not None:
        data = filtered.named + filtered.closing + filtered.unnamed
        yield Hook(stage="seccomp", text=_filter_text(filtered, spec), a=len(filtered.named), b=len(filtered.closing), data=data)


def _filter_text(filtered: SyscallFilter, spec: JobSpec) -> str:
    act = "the first denied call ends the job" if filtered.kill else "denied calls fail"
    text = f"system call filter {filtered.name!r}, {len(filtered.named) // 8} instructions; {act}"
    if spec.sandbox is not None:
        changes = (("allowed", spec.sandbox.syscalls_allow), ("denied", spec.sandbox.syscalls_deny))
        text += "".join([f"; {word} besides: {' '.join(names)}" for word, names in changes if names])
    return text


def check_sources(sources: Mapping[int, int]) -> None:
    """Raises ValueError unless each source is its own target or at least 3 (the caller duplicates others upwards first).

    Then no order of moves can overwrite a source that is still needed.
    """
    for target, source in sources.items():
        if source != target and source < 3:
            raise ValueError(f"descriptor {source} cannot be the source of {target}: duplicate it to 3 or above first")


def stdio_hooks(sources: Mapping[int, int]) -> tuple[Hook, ...]:
    """Hooks that put ``sources[target]`` on each standard descriptor. Raises what :func:`check_sources` raises."""
    check_sources(sources)
    return tuple([Hook(stage="stdio", text=f"{target} is {source}", arg=target, a=source) for target, source in sorted(sources.items())])


def cpu_mask(processors: tuple[int, ...]) -> bytes:
    """sched_setaffinity(2)'s bit mask, in whole 8-byte words."""
    bits = 0
    for cpu in processors:
        bits |= 1 << cpu
    return bits.to_bytes(8 * (max(processors) // 64 + 1), "little")


def _raw(amount: int | float) -> int:
    return RLIM_INFINITY if amount == INFINITY else int(amount)


def _signed(raw: int) -> int:
    return raw - (1 << 64) if raw >= 1 << 63 else raw
