# SPDX-License-Identifier: Apache-2.0
"""Pack a LaunchPlan into the flat block of native/plan.h: one header, arrays, then strings.

The structs are native/layout.h's own, through cffi, so the two sides cannot drift apart.
"""

from __future__ import annotations

from supervisor.kernel.native import STAGE_NUMBERS, ffi
from supervisor.model.hooks import check_sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from supervisor.model.hooks import Hook
    from supervisor.model.plan import LaunchPlan

MAGIC: Final = 0x31504652
_HEADER_SIZE: Final[int] = ffi.sizeof("struct sup_plan")
_HOOK_SIZE: Final[int] = ffi.sizeof("struct sup_hook")
_STEP_SIZE: Final[int] = ffi.sizeof("struct sup_cgroup_step")


class _Strings:
    """The tail of the block: strings at known offsets."""

    __slots__ = ("_parts", "at")

    def __init__(self, start: int) -> None:
        self._parts: list[bytes] = []
        self.at = start

    def add(self, raw: bytes) -> int:
        at = self.at
        self._parts.append(raw)
        self.at += len(raw)
        return at

    def end(self) -> bytes:
        return b"".join(self._parts)


def _aligned(size: int) -> int:
    return (size + 7) & ~7


_HOOKS_AT: Final = _aligned(_HEADER_SIZE)
_SOURCE_AT: Final[int] = ffi.offsetof("struct sup_hook", "a")


def _array(kind: str, rows: list[tuple[Any, ...]]) -> bytes:
    return bytes(ffi.buffer(ffi.new(kind, rows))) if rows else b""


def _pack_hooks(hooks: tuple[Hook, ...], data_at: int) -> tuple[bytes, bytes]:
    """The array of hooks and the data they point to, which starts at ``data_at``."""
    data = _Strings(data_at)
    rows = [
        (STAGE_NUMBERS[hook.stage], hook.arg, hook.a, hook.b, data.add(hook.data) if hook.data else 0, len(hook.data)) for hook in hooks
    ]
    return _array("struct sup_hook[]", rows), data.end()


def put_sources(block: bytes, first: int, sources: Mapping[int, int]) -> bytes:
    """The block with other descriptors on 0, 1 and 2, whose hooks are its ``first`` and the two after it."""
    check_sources(sources)
    made = bytearray(block)
    for target in range(3):
        at = _HOOKS_AT + _HOOK_SIZE * (first + target) + _SOURCE_AT
        made[at : at + 8] = sources[target].to_bytes(8, "little")
    return bytes(made)


def pack(plan: LaunchPlan, hooks: tuple[Hook, ...]) -> bytes:
    """The block for every launch of the plan; ``hooks`` are the plan's with the standard streams put in."""
    hooks_at = _HOOKS_AT
    steps_at = _aligned(hooks_at + _HOOK_SIZE * len(hooks))
    strings = _Strings(steps_at + _STEP_SIZE * len(plan.cgroup_steps))
    hook_array, hook_data = _pack_hooks(hooks, strings.at)
    strings.add(hook_data)
    step_rows = [
        (
            strings.add(step.path.encode() + b"\0"),
            strings.add(step.text.encode() + b"\0") if step.text else 0,
            strings.add(step.expect.encode() + b"\0") if step.expect else 0,
        )
        for step in plan.cgroup_steps
    ]
    leaf_at = strings.add(plan.cgroup_leaf.encode() + b"\0") if plan.cgroup_steps else 0
    payload_at = strings.add(plan.cgroup_payload.encode() + b"\0") if plan.cgroup_steps and plan.cgroup_payload else 0
    argv_at = strings.add(b"\0".join(plan.argv) + b"\0")
    env_at = strings.add(plan.env) if plan.env else 0
    paths_at = strings.add(b"\0".join(plan.paths) + b"\0")
    arrays = hook_array.ljust(steps_at - hooks_at, b"\0") + _array("struct sup_cgroup_step[]", step_rows)
    body = arrays + strings.end()
    header = ffi.new(
        "struct sup_plan *",
        (  # in the order of the struct
            MAGIC,
            hooks_at + len(body),
            len(hooks),
            hooks_at,
            len(step_rows),
            steps_at,
            leaf_at,
            len(plan.argv),
            argv_at,
            plan.env_count,
            env_at,
            len(plan.paths),
            paths_at,
            plan.namespaces,
            plan.setup_count,
            payload_at,
            plan.stay_processors,
        ),
    )
    return bytes(ffi.buffer(header)).ljust(hooks_at, b"\0") + body
