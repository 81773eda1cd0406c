# SPDX-License-Identifier: Apache-2.0
"""Pack a LaunchPlan into the flat block of native/plan.h: one header, arrays, then strings."""

from __future__ import annotations

from struct import Struct

from supervisor.kernel.native import STAGE_NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.hooks import Hook
    from supervisor.model.plan import LaunchPlan

MAGIC: Final = 0x31504652
_HEADER: Final = Struct("=14I")
_HOOK: Final = Struct("=IiqqII")
_STEP: Final = Struct("=III")


class _Strings:
    """The tail of the block: strings at known offsets."""

    def __init__(self, start: int) -> None:
        self._parts: list[bytes] = []
        self._at = start

    def add(self, raw: bytes) -> int:
        at = self._at
        self._parts.append(raw)
        self._at += len(raw)
        return at

    def end(self) -> bytes:
        return b"".join(self._parts)


def _aligned(size: int) -> int:
    return (size + 7) & ~7


def pack(plan: LaunchPlan, hooks: tuple[Hook, ...], job_cgroup: str) -> bytes:
    """The block for one launch.

    ``hooks`` are the plan's with the standard streams put in; ``job_cgroup`` is the name of the job's
    own directory below the supervisor's, put in front of every path.
    """
    hooks_at = _aligned(_HEADER.size)
    steps_at = _aligned(hooks_at + _HOOK.size * len(hooks))
    strings = _Strings(steps_at + _STEP.size * len(plan.cgroup_steps))
    packed_hooks = [
        _HOOK.pack(STAGE_NUMBERS[hook.stage], hook.arg, hook.a, hook.b, strings.add(hook.data) if hook.data else 0, len(hook.data))
        for hook in hooks
    ]
    packed_steps = []
    for step in plan.cgroup_steps:
        path = f"{job_cgroup}/{step.path}".rstrip("/")
        packed_steps.append(
            _STEP.pack(
                strings.add(path.encode() + b"\0"),
                strings.add(step.text.encode() + b"\0") if step.text else 0,
                strings.add(step.expect.encode() + b"\0") if step.expect else 0,
            )
        )
    leaf_at = strings.add(f"{job_cgroup}/{plan.cgroup_leaf}".rstrip("/").encode() + b"\0") if plan.cgroup_steps else 0
    argv_at = strings.add(b"\0".join(plan.argv) + b"\0")
    env_at = strings.add(plan.env) if plan.env else 0
    paths_at = strings.add(b"\0".join(plan.paths) + b"\0")
    body = b"".join(packed_hooks).ljust(steps_at - hooks_at, b"\0") + b"".join(packed_steps) + strings.end()
    header = _HEADER.pack(
        MAGIC,
        hooks_at + len(body),
        len(hooks),
        hooks_at,
        len(plan.cgroup_steps),
        steps_at,
        leaf_at,
        len(plan.argv),
        argv_at,
        plan.env_count,
        env_at,
        len(plan.paths),
        paths_at,
        0,
    )
    return header.ljust(hooks_at, b"\0") + body
