# SPDX-License-Identifier: Apache-2.0
"""Targets that are whole command lines, up to what would be started; and what an init helper says."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from supervisor.model.host import CONTROLLERS, CgroupFacts, Host, SandboxFacts, SystemPlace

SYSTEM: Final = (SystemPlace(kind="directory", path="/usr", source="/usr"), SystemPlace(kind="link", path="/bin", source="usr/bin"))
HOST: Final = Host(
    cgroup=CgroupFacts(source="root", path="/cgroup", controllers=frozenset(CONTROLLERS)),
    processors=4,
    memory_total_bytes=1 << 34,
    block_devices={"/dev/sda": "8:0"},
    sandbox=SandboxFacts(landlock_abi=7, system=SYSTEM),
)
#: Options that look something up or open it: their values are the system's to judge.
LOOKED_UP: Final = ("policy", "user", "group", "cgroup", "stdin", "stdout", "stderr", "result")
#: Longer than most packets of the socket, which are struct sup_notice.
NOTICES_MAX: Final = 64


def words(raw: bytes) -> list[str]:
    """An argument a line; what is no UTF-8 arrives as Python passes it on."""
    return [line.decode("utf-8", "surrogateescape") for line in raw.split(b"\n") if b"\0" not in line]


def command_line(raw: bytes) -> str:
    """``ringfence run`` up to the block that native code gets, which it must take, and what --explain prints of it."""
    from supervisor.cli.options import parse
    from supervisor.cli.run import _Run
    from supervisor.kernel.native import ffi, lib
    from supervisor.kernel.pack import pack
    from supervisor.model.plan import explain, make_environment, make_plan
    from supervisor.model.value import replace

    parsed = parse(words(raw))
    for name in LOOKED_UP:
        parsed.values.pop(name, None)
    parsed.flags.discard("pty")
    run = _Run(parsed, set())
    plan = make_plan(run._spec(*run._limits()), HOST, make_environment({}))
    without_steps = replace(plan, cgroup_steps=(), cgroup_leaf="", cgroup_payload="")
    block = pack(without_steps, without_steps.hooks)
    assert lib.sup_prepare_cgroup(block, len(block), -1, 0, ffi.new("struct sup_child *")) == 0, "native code refuses our own block"
    return explain(plan)


def isolate(raw: bytes) -> str:
    """``ringfence compat isolate`` up to the limits and the sandbox of a run."""
    from supervisor.model.isolate_options import isolate_limits, parse_isolate
    from supervisor.model.isolate_sandbox import isolate_sandbox

    options = parse_isolate(words(raw))
    isolate_limits(options)
    isolate_sandbox(options, "/box", 60000, lambda path: len(path) % 2 == 0)
    return options.command


def runexec(raw: bytes) -> None:
    """``ringfence compat runexec``."""
    from supervisor.model.runexec_options import parse_runexec

    parse_runexec(words(raw))


def timeout(raw: bytes) -> None:
    """``ringfence compat timeout``."""
    from supervisor.model.timeout_options import parse_timeout

    parse_timeout(words(raw))


class _Deaf:
    """An engine that is never asked: a tree only registers its socket with it."""

    def watch_ready(self, token: int, fd: int) -> None:
        return None


def notices(raw: bytes) -> str:
    """Packets on the control socket, each behind a byte: its length, or from 128 on a whole notice. What failed is put in words."""
    from supervisor.kernel.diagnose import start_error
    from supervisor.kernel.native import ffi
    from supervisor.kernel.tree import ENDED, FAILED, HelperTree
    from supervisor.model.plan import make_environment, make_plan
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.end import End

    plan = make_plan(JobSpec(argv=("true",)), HOST, make_environment({}))
    size, said, engine, end = ffi.sizeof("struct sup_notice"), [], _Deaf(), End()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tree: Any = HelperTree(engine, 0, ours.detach(), os.getpid())  # type: ignore[arg-type]
    try:
        for _ in range(NOTICES_MAX):
            if not raw:
                break
            length = size if raw[0] >= 128 else raw[0]
            theirs.send(raw[1 : 1 + length].ljust(size, b"\0") if raw[0] >= 128 else raw[1 : 1 + length])
            raw = raw[1 + length :]
        theirs.close()
        while (notice := tree.receive()) is not None:
            if notice.kind == FAILED:
                end.take_failure(notice)
                assert end.start_failure is not None
                said.append(start_error(*end.start_failure, plan).message)
            elif notice.kind == ENDED:
                end.take_notice(notice)
                said.append(str(end.status))
    finally:
        theirs.close()
        tree.close()
    return " ".join(said)
