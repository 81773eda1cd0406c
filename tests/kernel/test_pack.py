# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.kernel.pack`` claims: any plan becomes a block that native code takes, and native code takes no broken one.

Nothing here is ever executed: the one native call checks a block and runs its cgroup steps below descriptor -1, where
every relative path fails; blocks that could hold an absolute path are kept from it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor.kernel.native import STAGE_NUMBERS, STAGES, ffi, lib
from supervisor.kernel.pack import pack, put_sources
from supervisor.model.hooks import Hook, stdio_hooks
from supervisor.model.limits import Limits
from supervisor.model.plan import CgroupStep, LaunchPlan
from supervisor.model.value import replace

relaxed = settings(deadline=None)  # a busy machine is not a failure
thorough = settings(deadline=None, max_examples=400)

# native/plan.h, read on its own: a second opinion on pack.py
HEADER = struct.Struct("=17I")
FIELDS = [
    "magic",
    "size",
    "hook_count",
    "hooks_off",
    "step_count",
    "steps_off",
    "cgroup_leaf_off",
    "argc",
    "argv_off",
    "envc",
    "env_off",
    "pathc",
    "paths_off",
    "namespaces",
    "setup_count",
    "payload_off",
    "stay_processors",
]
HOOK = struct.Struct("=IiqqII")
STEP = struct.Struct("=III")
#: Stages whose data are so many texts.
TEXTS = {"user_map": 2, "root": 2, "terminals": 2, "place": 2, "bind": 2, "overlay": 4, "proc": 1, "user_namespaces": 2}
NAMESPACES = 0x7E020000
HOOK_STAGES = STAGES[STAGE_NUMBERS["preexec"] + 1 : STAGE_NUMBERS["exec"]]

# without a slash: what is packed from these can name no absolute path, wherever an offset may point
plain_text = st.text("abc-.=+ 0123", max_size=6)
strings = st.binary(max_size=6).filter(lambda raw: not {0, 0x2F} & set(raw))


def fitting(stage: str, data: bytes) -> bytes:
    """Data as the planner makes it for the stage."""
    if stage == "tmpfs":
        return b"target\0options\0"
    if stage in TEXTS:
        parts = (data.split(b"\0") + [b""] * TEXTS[stage])[: TEXTS[stage]]
        return b"".join(part + b"\0" for part in parts)
    if stage == "landlock":
        return (data[:4] * 2).ljust(8, b"\1") + data.replace(b"\0", b"") + b"\0"
    if stage == "working_directory":
        return data + b"\0"
    if stage == "cpu_affinity":
        return (data + b"\1").ljust(-(-(len(data) + 1) // 8) * 8, b"\0")
    return data[: len(data) // 4 * 4] if stage == "supplementary_groups" else data


def fitted(hook: Hook) -> Hook:
    """Three programs are whole instructions, and there is no first and no third without any."""
    if hook.stage != "seccomp":
        return replace(
            hook,
            data=fitting(hook.stage, hook.data),
            arg={"proc": 1, "user_namespaces": 1, "landlock": 24}.get(hook.stage, hook.arg),
            b=0 if hook.stage == "tmpfs" else hook.b,
        )
    sizes = (8 * (1 + hook.a % 3), 8 * (hook.b % 3), 8)
    return replace(hook, a=sizes[0], b=sizes[1], data=(hook.data or b"\1").ljust(sum(sizes), b"\2"))


hooks = st.builds(
    lambda stage, arg, a, b, data: Hook(stage=stage, text="", arg=arg, a=a, b=b, data=data),
    st.sampled_from(HOOK_STAGES),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=12).filter(lambda raw: 0x2F not in raw),
).map(lambda hook: fitted(hook))
# the first makes the job's directory, as in every plan
steps = st.lists(
    st.builds(
        lambda path, text, expect: CgroupStep(path=path, text=text, expect=expect if text else ""), plain_text, plain_text, plain_text
    ),
    max_size=4,
).map(lambda more: (CgroupStep(path=""), *more))


@st.composite
def plans(draw: st.DrawFn, with_steps: bool = True) -> LaunchPlan:
    """Any plan; what is not packed is left empty."""
    env = draw(st.lists(strings, max_size=4))
    return LaunchPlan(
        argv=tuple(draw(st.lists(strings, min_size=1, max_size=4))),
        env=b"".join(item + b"\0" for item in env),
        env_count=len(env),
        paths=tuple(draw(st.lists(strings, min_size=1, max_size=3))),
        hooks=tuple(draw(st.lists(hooks, max_size=5))),
        cgroup_steps=draw(st.just(()) | steps) if with_steps else (),
        cgroup_leaf=draw(plain_text),
        cgroup_payload=draw(plain_text),
        namespaces=draw(st.integers(0, 2**32 - 1)) & NAMESPACES,
        cgroup_box="",
        stdin=None,
        stdout=None,
        stderr=None,
        limits=Limits(),
        enforcement={},
        enforced=frozenset(),
        sampled=(),
        tree="cgroup",
        warnings=(),
    )


class GuardedMemory:
    """Owns pages of memory before one that must not be touched: a read past the end of a block ends the test run."""

    def __init__(self, pages: int = 8) -> None:
        self._map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.size = pages * mmap.PAGESIZE
        self._start = start
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(start + self.size), ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, block: bytes) -> Any:
        """The block as near to the end as its alignment allows."""
        at = self.size - (len(block) + 7 & ~7)
        self._map[at : at + len(block)] = block
        return ffi.cast("void *", self._start + at)


MEMORY = GuardedMemory()


def field(block: bytes, name: str) -> int:
    return int(HEADER.unpack_from(block)[FIELDS.index(name)])


def native_takes(block: bytes) -> bool:
    """What native code says of the block. Its steps, if it has any, fail at the first: there is no directory -1."""
    assert harmless(block), "a test must not make directories"
    child = ffi.new("struct sup_child *")
    result = lib.sup_prepare_cgroup(MEMORY.place(block), len(block), -1, 0, child)
    assert result == -child.err
    assert (child.pid, child.pidfd, child.cgroup_fd) == (-1, -1, -1)
    refused = STAGES[child.stage] == "plan"
    assert not refused or child.err == errno.EINVAL
    return not refused


def harmless(block: bytes) -> bool:
    """No step, or no slash wherever an offset may point, so that every path of a step is relative."""
    return len(block) < HEADER.size or field(block, "step_count") == 0 or b"/" not in block[HEADER.size :]


def string_at(block: bytes, at: int) -> bytes | None:
    """The string there, or None when it does not lie inside the block."""
    end = block.find(b"\0", at) if HEADER.size <= at < len(block) else -1
    return None if end < 0 else block[at:end]


def strings_at(block: bytes, at: int, count: int) -> list[bytes] | None:
    found = []
    for _ in range(count):
        text = string_at(block, at)
        if text is None:
            return None
        found.append(text)
        at += len(text) + 1
    return found


def data_fits(stage: str, arg: int, a: int, b: int, data: bytes) -> bool:
    """A path ends in NUL, arrays hold whole items, texts are as many as they must be, programs are whole instructions."""
    if stage in TEXTS:
        count = arg * TEXTS[stage] if stage in ("proc", "user_namespaces") else TEXTS[stage]
        return data.count(b"\0") == count and (data.endswith(b"\0") or not data)
    if stage == "tmpfs":
        return 0 <= b <= 64 and data.count(b"\0") == 2 + b and data.endswith(b"\0") and b"" not in data.split(b"\0")[2:-1]
    if stage == "landlock":
        while data:
            end = data.find(b"\0", 8)
            if end < 0:
                return False
            data = data[end + 1 :]
        return arg in (8, 16, 24)
    if stage == "seccomp":
        sizes = (a, b, len(data) - a - b)
        return all(size % 8 == 0 and 0 <= size <= 8 * 4096 for size in sizes) and a > 0 and sizes[2] > 0
    if stage == "working_directory":
        return data.endswith(b"\0")
    if stage == "cpu_affinity":
        return bool(data) and len(data) % 8 == 0
    return stage != "supplementary_groups" or len(data) % 4 == 0


def sound(block: bytes) -> bool:
    """The rules of plan.h, in Python: every offset, count and string lies inside the block."""
    if len(block) < HEADER.size:
        return False
    h = dict(zip(FIELDS, HEADER.unpack_from(block), strict=True))
    if h["magic"] != 0x31504652 or h["size"] != len(block) or h["argc"] == 0 or h["pathc"] == 0:
        return False
    for count, at, size in ((h["hook_count"], h["hooks_off"], HOOK.size), (h["step_count"], h["steps_off"], STEP.size)):
        if count and (at % 8 or at < HEADER.size or at + count * size > len(block)):
            return False
    if any(strings_at(block, h[at], h[count]) is None for count, at in (("argc", "argv_off"), ("envc", "env_off"), ("pathc", "paths_off"))):
        return False
    if h["cgroup_leaf_off"] and string_at(block, h["cgroup_leaf_off"]) is None:
        return False
    if h["payload_off"] and (h["step_count"] == 0 or string_at(block, h["payload_off"]) is None):
        return False
    if h["setup_count"] > h["hook_count"] or h["namespaces"] & ~NAMESPACES:
        return False
    for n in range(h["hook_count"]):
        stage, arg, a, b, at, length = HOOK.unpack_from(block, h["hooks_off"] + n * HOOK.size)
        if not STAGE_NUMBERS["preexec"] < stage < STAGE_NUMBERS["exec"] or (length and (at < HEADER.size or at + length > len(block))):
            return False
        if not data_fits(STAGES[stage], arg, a, b, block[at : at + length]):
            return False
    if h["step_count"] == 0 and h["cgroup_leaf_off"]:
        return False
    for n in range(h["step_count"]):
        path, text, expect = STEP.unpack_from(block, h["steps_off"] + n * STEP.size)
        if n == 0 and text:
            return False
        if string_at(block, path) is None or any(at and string_at(block, at) is None for at in (text, expect)):
            return False
    return True


# packing


@relaxed
@given(plans())
def test_any_plan_is_packed_into_a_block_that_native_code_takes(plan: LaunchPlan) -> None:
    block = pack(replace(plan, cgroup_steps=()), plan.hooks)
    assert native_takes(block)
    assert sound(pack(plan, plan.hooks))


def test_a_block_with_cgroup_steps_is_taken_and_its_first_step_is_what_fails_here() -> None:
    plan = replace(a_plan(), cgroup_steps=(CgroupStep(path=""), CgroupStep(path="memory.max", text="1", expect="1")), cgroup_leaf="")
    block = pack(plan, plan.hooks)
    child = ffi.new("struct sup_child *")
    assert lib.sup_prepare_cgroup(MEMORY.place(block), len(block), -1, 0, child) == -errno.EBADF
    assert (STAGES[child.stage], child.index) == ("cgroup_create", 0)


@relaxed
@given(plans())
def test_nothing_of_a_plan_is_lost_or_changed(plan: LaunchPlan) -> None:
    plan = replace(plan, stay_processors=len(plan.argv))
    block = pack(plan, plan.hooks)
    h = dict(zip(FIELDS, HEADER.unpack_from(block), strict=True))
    assert strings_at(block, h["argv_off"], h["argc"]) == list(plan.argv)
    assert strings_at(block, h["env_off"], h["envc"]) == plan.env.split(b"\0")[:-1]
    assert strings_at(block, h["paths_off"], h["pathc"]) == list(plan.paths)
    assert h["hook_count"] == len(plan.hooks)
    for n, hook in enumerate(plan.hooks):
        stage, arg, a, b, at, length = HOOK.unpack_from(block, h["hooks_off"] + n * HOOK.size)
        assert (STAGES[stage], arg, a, b, block[at : at + length]) == (hook.stage, hook.arg, hook.a, hook.b, hook.data)
    assert h["step_count"] == len(plan.cgroup_steps)
    for n, step in enumerate(plan.cgroup_steps):
        path, text, expect = STEP.unpack_from(block, h["steps_off"] + n * STEP.size)
        assert string_at(block, path) == step.path.encode()
        assert (string_at(block, text) or b"", string_at(block, expect) or b"") == (step.text.encode(), step.expect.encode())
        assert (text == 0) == (step.text == ""), "a step without text makes a directory"
    if plan.cgroup_steps:
        assert string_at(block, h["cgroup_leaf_off"]) == plan.cgroup_leaf.encode()
        assert (string_at(block, h["payload_off"]) if h["payload_off"] else b"") == plan.cgroup_payload.encode()
    else:
        assert h["cgroup_leaf_off"] == h["payload_off"] == 0
    assert (h["namespaces"], h["setup_count"], h["stay_processors"]) == (plan.namespaces, plan.setup_count, plan.stay_processors)


a_source = st.integers(3, 2**31 - 1)


@relaxed
@given(plans(), st.integers(0, 5), st.fixed_dictionaries({0: a_source | st.just(0), 1: a_source | st.just(1), 2: a_source | st.just(2)}))
def test_a_block_that_is_given_other_streams_is_the_one_that_is_packed_with_them(
    plan: LaunchPlan, first: int, sources: dict[int, int]
) -> None:
    first = min(first, len(plan.hooks))
    before, after = plan.hooks[:first], plan.hooks[first:]
    inherited = pack(plan, (*before, *stdio_hooks({0: 0, 1: 1, 2: 2}), *after))
    assert put_sources(inherited, first, sources) == pack(plan, (*before, *stdio_hooks(sources), *after))


@pytest.mark.parametrize("sources", [{0: 1, 1: 1, 2: 2}, {0: 0, 1: 3, 2: 1}, {0: -1, 1: 1, 2: 2}])
def test_a_stream_whose_descriptor_another_one_would_overwrite_is_refused(sources: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="duplicate it to 3 or above first"):
        put_sources(pack(a_plan(), (*stdio_hooks({0: 0, 1: 1, 2: 2}), *a_plan().hooks)), 0, sources)


@relaxed
@given(plans())
def test_packing_is_a_function_of_the_plan(plan: LaunchPlan) -> None:
    assert pack(plan, plan.hooks) == pack(plan, plan.hooks)


# breaking


def a_plan() -> LaunchPlan:
    return LaunchPlan(
        argv=(b"true", b""),
        env=b"A=1\0",
        env_count=1,
        paths=(b"true",),
        hooks=(Hook(stage="signals", text="", a=-1), Hook(stage="working_directory", text="", data=b"x\0")),
        cgroup_steps=(),
        cgroup_leaf="",
        cgroup_box="",
        stdin=None,
        stdout=None,
        stderr=None,
        limits=Limits(),
        enforcement={},
        enforced=frozenset(),
        sampled=(),
        tree="cgroup",
        warnings=(),
    )


def a_block() -> bytes:
    return pack(a_plan(), a_plan().hooks)


numbers = st.sampled_from([0, 1, 8, 55, 56, 64, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1]) | st.integers(0, 200) | st.integers(0, 2**32 - 1)


def written(block: bytes, at: int, number: int) -> bytes:
    raw = number.to_bytes(4, "little")
    return (block[:at] + raw + block[at + 4 :])[: len(block)]


def judge(block: bytes) -> None:
    """Native code and this file agree on the block, and nobody crashes."""
    if harmless(block):
        assert native_takes(block) == sound(block)


@pytest.mark.parametrize(("kept", "taken"), [((b"rx", b"wy"), True), ((b"r",), True), ((b"",), False), ((b"rx", b""), False)])
def test_a_place_to_keep_is_never_empty(kept: tuple[bytes, ...], taken: bool) -> None:
    """Its first character is read and its path begins behind that, which for an empty one is somebody else's text."""
    data = b"".join(text + b"\0" for text in (b"tmp", b"size=1", *kept))
    hooks = (Hook(stage="tmpfs", text="", b=len(kept), data=data),)
    assert native_takes(pack(replace(a_plan(), hooks=hooks), hooks)) == taken


@pytest.mark.parametrize("cut", range(len(a_block())))
def test_a_block_that_is_cut_off_is_refused(cut: int) -> None:
    assert not native_takes(a_block()[:cut])


def test_a_block_that_is_cut_off_and_says_so_is_judged_by_what_is_left() -> None:
    for cut in range(HEADER.size, len(a_block())):
        judge(written(a_block()[:cut], 4, cut))


def test_a_block_with_something_behind_it_is_refused() -> None:
    assert native_takes(a_block())
    assert not native_takes(a_block() + b"\0")


@pytest.mark.parametrize("at", range(len(a_block())))
def test_a_block_with_any_one_byte_changed_is_judged_alike_here_and_there(at: int) -> None:
    block = a_block()
    for byte in range(256):
        changed = block[:at] + bytes([byte]) + block[at + 1 :]
        judge(changed)


@thorough
@given(plans(with_steps=False), st.lists(st.tuples(st.integers(0, 50), numbers), min_size=1, max_size=3))
@example(a_plan(), [(4, 1), (5, 64)])  # a step out of the hooks
def test_a_block_with_any_of_its_numbers_changed_is_judged_alike_here_and_there(plan: LaunchPlan, changes: list[tuple[int, int]]) -> None:
    block = pack(plan, plan.hooks)
    for index, number in changes:
        block = written(block, index * 4 % len(block), number)
    judge(block)


@thorough
@given(plans(with_steps=False), st.data())
def test_a_block_with_bytes_changed_cut_or_put_in_is_judged_alike_here_and_there(plan: LaunchPlan, data: st.DataObject) -> None:
    block = pack(plan, plan.hooks)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(block)))
        end = data.draw(st.integers(at, min(len(block), at + 8)))
        block = block[:at] + data.draw(st.binary(max_size=8)) + block[end:]
    if data.draw(st.booleans()) and len(block) >= 8:
        block = written(block, 4, len(block))  # a size that fits, so that the check goes on
    judge(block)


@relaxed
@given(st.binary(max_size=300), st.booleans())
def test_noise_is_judged_alike_here_and_there(noise: bytes, headed: bool) -> None:
    judge(HEADER.pack(0x31504652, HEADER.size + len(noise), *([0] * (len(FIELDS) - 2))) + noise if headed else noise)
