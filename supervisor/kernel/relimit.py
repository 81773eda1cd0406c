# SPDX-License-Identifier: Apache-2.0
"""Put changed limits on a running tree: written, read back, and all taken back when one step fails."""

from __future__ import annotations

from supervisor.errors import CgroupError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.tree import Tree
    from supervisor.model.limit_kinds import Rlimit
    from supervisor.model.plan import CgroupStep

ERANGE: Final = 34
#: A tree that forks is walked again until a walk meets nobody new; what is born later inherits.
WALKS_MAX: Final = 16
INFINITY: Final = float("inf")


def apply_limits(tree: Tree, main_pid: int, cgroup: Cgroup | None, writes: tuple[CgroupStep, ...], rlimits: Mapping[int, Rlimit]) -> None:
    """Set rlimits of every process of the tree (prlimit(2)), write the cgroup files and read each back.

    Blocks while the kernel reclaims what a lower memory limit no longer allows. Raises
    :class:`UnsupportedError` when a hard rlimit would have to be raised without CAP_SYS_RESOURCE,
    :class:`CgroupError` when the kernel refuses a file and OSError when the tree cannot be looked at; everything is then back as it was.
    """
    undo: list[Callable[[], object]] = []
    try:
        if rlimits:
            _set_rlimits(tree, main_pid, rlimits, undo)
        if cgroup is not None:
            _write_files(cgroup, writes, undo)
    except Exception:  # what else there is: no descriptor left to look at the tree with
        for step in reversed(undo):
            step()
        raise


def _write_files(cgroup: Cgroup, writes: tuple[CgroupStep, ...], undo: list[Callable[[], object]]) -> None:
    for write in writes:
        before = _as_written(write.path, write.text, cgroup.read(write.path) or "")
        cgroup.write(write.path, write.text)
        undo.append(lambda path=write.path, text=before: cgroup.write(path, text))  # type: ignore[misc]
        if write.expect and not _reads_back(cgroup.read(write.path) or "", write.expect):
            raise CgroupError(ERANGE, f"reads back otherwise than the {write.text!r} written", f"{cgroup.name}/{write.path}", "verify")


def _reads_back(text: str, expect: str) -> bool:
    return any(set(expect.split()) <= set(line.split()) for line in text.splitlines())


def _as_written(path: str, written: str, before: str) -> str:
    """The earlier content in the words that writing it takes: io.max takes one device a time."""
    if not path.endswith("io.max"):
        return before.strip().removeprefix("default ")
    device = written.split()[0]
    lines = [line for line in before.splitlines() if line.split()[0] == device]
    return lines[0] if lines else f"{device} rbps=max wbps=max riops=max wiops=max"


def _set_rlimits(tree: Tree, main_pid: int, rlimits: Mapping[int, Rlimit], undo: list[Callable[[], object]]) -> None:
    seen: set[int] = set()
    for _ in range(WALKS_MAX):
        pids = {pid for pid in (*tree.members(), main_pid) if pid > 0} - seen
        if not pids:
            return
        seen |= pids
        for pid in sorted(pids):
            for number, limit in rlimits.items():
                _set_rlimit(pid, number, limit, undo)


def _set_rlimit(pid: int, number: int, limit: Rlimit, undo: list[Callable[[], object]]) -> None:
    import resource

    soft, hard = (resource.RLIM_INFINITY if amount == INFINITY else int(amount) for amount in (limit.soft, limit.hard))
    try:
        before = resource.prlimit(pid, number, (soft, hard))
    except ProcessLookupError:
        return  # it has ended
    except (PermissionError, ValueError):
        from supervisor.model.hooks import RLIMIT_NAMES

        raise UnsupportedError(
            f"RLIMIT_{RLIMIT_NAMES[number]} {limit}", f"process {pid} may not be given it; raising a hard limit needs CAP_SYS_RESOURCE"
        ) from None
    undo.append(lambda: _put_back(pid, number, before))


def _put_back(pid: int, number: int, before: tuple[int, int]) -> None:
    import resource

    try:
        resource.prlimit(pid, number, before)
    except (ProcessLookupError, PermissionError):
        return  # it has ended, or a hard limit that was lowered cannot be raised again
