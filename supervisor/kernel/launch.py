# SPDX-License-Identifier: Apache-2.0
"""From a plan to the bytes native code launches: directly, through the init helper, or after a fork."""

from __future__ import annotations

import os

from supervisor.kernel import native
from supervisor.kernel.native import ffi, lib
from supervisor.kernel.pack import pack, put_sources
from supervisor.kernel.streams import high
from supervisor.model.hooks import Hook, stdio_hooks
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from supervisor.kernel.held_signals import HeldSignals
    from supervisor.model.plan import LaunchPlan

HELPER: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ringfence-init")


def direct_block(plan: LaunchPlan, sources: Mapping[int, int]) -> bytes:
    """The block of a launch straight into a cgroup; jobs of one plan share one but for the descriptors of their streams."""
    parent = os.getpid()
    kept = _blocks.get(id(plan))
    if kept is None or kept[0] is not plan or kept[1] != parent:
        block = pack(plan, complete_hooks(plan.hooks, INHERITED, parent))
        kept = (plan, parent, block)
        if len(block) <= KEPT_MAX_BYTES:
            if len(_blocks) >= MEMO_MAX:
                _blocks.clear()
            _blocks[id(plan)] = kept
    if sources == INHERITED:
        return kept[2]
    return put_sources(kept[2], _streams_at(plan.hooks), sources)


INHERITED: Final = {0: 0, 1: 1, 2: 2}
MEMO_MAX: Final = 64
KEPT_MAX_BYTES: Final = 131072
#: by id of the plan: that plan (which keeps the id its own), the parent, the block with streams inherited
_blocks: dict[int, tuple[LaunchPlan, int, bytes]] = {}


def complete_hooks(hooks: tuple[Hook, ...], sources: Mapping[int, int], parent: int) -> tuple[Hook, ...]:
    """The plan's hooks with what only a launch knows: the streams' descriptors and our process id."""
    return _with_parent(_with_streams(hooks, sources), parent)


def _with_streams(hooks: tuple[Hook, ...], sources: Mapping[int, int]) -> tuple[Hook, ...]:
    at = _streams_at(hooks)
    return (*hooks[:at], *stdio_hooks(sources), *hooks[at:])


def _streams_at(hooks: tuple[Hook, ...]) -> int:
    """The standard streams go in just before every other descriptor is closed."""
    return [hook.stage for hook in hooks].index("close_fds")


def _with_parent(hooks: tuple[Hook, ...], parent: int) -> tuple[Hook, ...]:
    return tuple([replace(hook, a=parent) if hook.stage == "parent_death_signal" else hook for hook in hooks])


KEEP: Final = 1  # of the capabilities hook: keep them across exec
SIGCHLD_BIT: Final = 1 << 16  # who ignores it learns of no end


def _job_block(plan: LaunchPlan) -> bytes:
    """The block that the helper starts the job from; many jobs of one plan share it."""
    kept = _job_blocks.get(id(plan))
    if kept is None or kept[0] is not plan:
        namespaces = 0 if plan.setup_count else plan.namespaces
        job = replace(plan, cgroup_steps=(), cgroup_leaf="", cgroup_payload="", namespaces=namespaces)
        if len(_job_blocks) >= MEMO_MAX:
            _job_blocks.clear()
        kept = _job_blocks[id(plan)] = (plan, pack(job, _with_parent(plan.hooks, 0)))
    return kept[1]


#: by id of the plan: the plan (which keeps the id its own), the block
_job_blocks: dict[int, tuple[LaunchPlan, bytes]] = {}


def _helper_block(plan: LaunchPlan, sources: Mapping[int, int], control: int, memory: int, program_fd: int) -> bytes:
    kept = [hook for hook in plan.hooks if hook.stage in ("pass_fd", "terminal")]
    default = next(hook.a for hook in plan.hooks if hook.stage == "signals")  # the others stay ignored, and the job inherits that
    confined = plan.setup_count > 0  # then the namespaces are the helper's, and the cgroup steps are done for it
    used = {0, 1, 2, program_fd, control, memory, *sources.values(), *(hook.arg for hook in kept)}
    payload = next(fd for fd in range(3, 4 + len(used)) if fd not in used) if plan.cgroup_payload and plan.cgroup_steps else 0
    hooks = (
        Hook(stage="signals", text="", a=default | SIGCHLD_BIT, b=-1),  # blocked: the helper reads SIGCHLD from a descriptor
        *stdio_hooks(sources),
        Hook(stage="close_fds", text=""),
        *(Hook(stage="pass_fd", text="", arg=fd) for fd in (control, memory, *(hook.arg for hook in kept))),
        *((Hook(stage="cgroup_directory", text="", arg=payload),) if payload else ()),
        *((Hook(stage="capabilities", text="", arg=KEEP),) if confined else ()),
    )
    helper = replace(
        plan,
        argv=(b"ringfence-init", b"%d" % control, b"%d" % memory, b"%d" % payload),
        env=b"",
        env_count=0,
        paths=(HELPER.encode() if program_fd < 0 else b"/proc/self/fd/%d" % program_fd,),
        namespaces=plan.namespaces if confined else 0,
        setup_count=0,
    )
    return pack(helper, hooks)


#: by id of the plan and the descriptors, which jobs one after the other often have alike: the plan (which keeps the id its own), the block
_helper_blocks: dict[tuple[object, ...], tuple[LaunchPlan, bytes]] = {}


class HelperLaunch:
    """The block that starts the init helper, and our end of its control socket.

    The helper inherits the job's standard streams and descriptors and reads the job's own block from a
    memory file. :meth:`release` closes what only the helper needs.
    """

    __slots__ = ("_theirs", "block", "control_fd")

    def __init__(self, plan: LaunchPlan, sources: Mapping[int, int], program_fd: int = -1) -> None:
        """``program_fd``: the helper's program where its file shall not be used.

        Raises OSError when a descriptor cannot be had; nothing is left open then.
        """
        self.control_fd = -1
        self._theirs: list[int] = []
        try:
            self._open()
            self.block = self._pack(plan, sources, program_fd)
        except BaseException:
            self.release()
            if self.control_fd >= 0:
                os.close(self.control_fd)
            raise

    def _open(self) -> None:
        pair = ffi.new("int32_t[2]")
        native.check(lib.sup_socketpair(pair), "socketpair")
        self.control_fd, control = pair[0], pair[1]
        self._theirs.append(control)
        self._theirs.append(os.memfd_create("ringfence-plan", os.MFD_CLOEXEC))
        fd, self.control_fd = self.control_fd, -1  # high() closes what it replaces, also when it fails
        self.control_fd = high(fd)
        for _ in range(len(self._theirs)):
            self._theirs.append(high(self._theirs.pop(0)))

    def _pack(self, plan: LaunchPlan, sources: Mapping[int, int], program_fd: int) -> bytes:
        control, memory = self._theirs
        os.write(memory, _job_block(plan))
        key = (id(plan), control, memory, program_fd, *sources.items())
        kept = _helper_blocks.get(key)
        if kept is None or kept[0] is not plan:
            if len(_helper_blocks) >= MEMO_MAX:
                _helper_blocks.clear()
            kept = _helper_blocks[key] = (plan, _helper_block(plan, sources, control, memory, program_fd))
        return kept[1]

    def release(self) -> None:
        """Close the helper's ends in this process."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs.clear()


def _remove_cgroup(child: Any, block: bytes, cgroup_root_fd: int, job: int) -> None:
    if child.cgroup_fd >= 0:
        os.close(child.cgroup_fd)
        lib.sup_remove_cgroup(block, cgroup_root_fd, job)
        child.cgroup_fd = -1


def spawn_forked(
    block: bytes, cgroup_root_fd: int, job: int, leaf: str, preexec: tuple[Callable[[], object], ...], held: HeldSignals
) -> tuple[Any, str]:
    """Launch with Python callables before the hooks: a real fork, so it costs what the parent's memory costs.

    The callables run in the child, single-threaded, in order. ``leaf`` is the cgroup that the child joins,
    below the directory of ``job``. Returns the ``struct sup_child`` and,
    when a callable raised, its exception as text. Raises OSError when no process can be made or watched, and what the
    handler of a signal raises while the callables take their time; nothing is left then.
    """
    child = ffi.new("struct sup_child *")
    if lib.sup_prepare_cgroup(block, len(block), cgroup_root_fd, job, child) < 0:
        return child, ""
    procs_fd = -1
    pipe = [-1, -1]
    pair = ffi.new("int32_t[2]", [-1, -1])
    try:
        if child.cgroup_fd >= 0:
            procs_fd = os.open(f"{leaf}/cgroup.procs" if leaf else "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=child.cgroup_fd)
        pipe = list(os.pipe2(os.O_CLOEXEC))
        native.check(lib.sup_socketpair(pair), "socketpair")
        pid = _fork_quietly()
        if pid == 0:
            _forked_child(block, procs_fd, pair[1], pipe[1], preexec, held)
        os.close(pipe[1])
        pipe[1] = -1
        raw = _wait_for_exec(child, pid, pipe[0], held)
        child.listener_fd = native.receive(pair[0], wait=False)[1]
    except BaseException:
        _remove_cgroup(child, block, cgroup_root_fd, job)
        raise
    finally:
        for fd in (procs_fd, *pipe, *pair):
            if fd >= 0:
                os.close(fd)
    child.started_ns = native.now_ns()
    child.into_cgroup = 2
    if not raw:
        return child, ""
    return child, _failed_fork(child, raw, block, cgroup_root_fd, job)


def _wait_for_exec(child: Any, pid: int, report_fd: int, held: HeldSignals) -> bytes:
    """What the child reports, nothing when it has become the program. Whatever is raised meanwhile, the child is ended first."""
    try:
        child.pidfd = native.open_pidfd(pid)
        child.pid = pid
        raw = b""
        while True:
            held.wait_readable(report_fd)
            more = os.read(report_fd, 4096)
            if not more:
                return raw
            raw += more
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        if child.pidfd >= 0:
            os.close(child.pidfd)
        raise


def _fork_quietly() -> int:
    """Python 3.12 warns that forking beside threads is dangerous; the child runs only what the caller chose."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _forked_child(
    block: bytes, procs_fd: int, listener_socket: int, report_fd: int, preexec: tuple[Callable[[], object], ...], held: HeldSignals
) -> None:
    try:
        try:
            held.forked()
            for function in preexec:
                function()
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) and error.errno else 22
            report = ffi.new("int32_t[3]", [native.STAGE_NUMBERS["preexec"], number, 0])
            os.write(report_fd, bytes(ffi.buffer(report)) + f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:500])
        else:
            lib.sup_child_exec(block, len(block), procs_fd, listener_socket, report_fd)
    finally:
        os._exit(127)


def _failed_fork(child: Any, raw: bytes, block: bytes, cgroup_root_fd: int, job: int) -> str:
    os.waitpid(child.pid, 0)
    os.close(child.pidfd)
    if child.listener_fd >= 0:
        os.close(child.listener_fd)
    _remove_cgroup(child, block, cgroup_root_fd, job)
    child.pid = child.pidfd = -1
    report = ffi.from_buffer("int32_t *", bytearray(raw[:12]))
    child.stage, child.err, child.index = report[0], report[1], report[2]
    return raw[12:].decode("utf-8", "replace")
