# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of launch plans in native code: ``python -m tests.fuzz.plans [--seconds N] [--seed N]``.

plan_fuzz.c is built with the native sources under AddressSanitizer and UndefinedBehaviorSanitizer, and begins with the blocks of
real plans. They are packed anew each time, because a kept block would be of an old layout after every change of it; what
was found is kept as a claim in tests/native instead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
NATIVE: Final = HERE.parents[1] / "native"
SOURCES: Final = ("plan.c", "child.c", "processor.c", "sandbox.c", "mounts.c", "landlock.c", "seccomp.c", "handover.c")
FLAGS: Final = "-std=gnu11 -g -O1 -D_GNU_SOURCE -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer".split()


def sources() -> list[Path]:
    """What is built: the fuzzer, the check, and the child half."""
    return [HERE / "native" / "plan_fuzz.c", *(NATIVE / name for name in SOURCES)]


def build(folder: Path) -> Path:
    """The fuzzer; raises CalledProcessError."""
    made = folder / "plan_fuzz"
    header = HERE / "native" / "fake_kernel.h"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *FLAGS, "-I", NATIVE, "-include", header, *sources(), "-o", made], check=True)
    return made


def blocks() -> Iterator[bytes]:
    """Blocks of real plans: without and with a cgroup, without and with each sandbox, with every kind of hook."""
    from supervisor.kernel.pack import pack
    from supervisor.model.host import CONTROLLERS, CgroupFacts, Host, SandboxFacts, SystemPlace
    from supervisor.model.limits import Limits
    from supervisor.model.plan import make_environment, make_plan
    from supervisor.model.sandbox import Sandbox
    from supervisor.model.spec import Credentials, JobSpec

    cgroup = CgroupFacts(source="root", path="/cgroup", controllers=frozenset(CONTROLLERS))
    system = (
        SystemPlace(kind="directory", path="/usr", source="/usr"),
        SystemPlace(kind="link", path="/bin", source="usr/bin"),
        SystemPlace(kind="file", path="/etc/passwd", source="/etc/passwd"),
    )
    limits = Limits(memory_max="64M", tasks_max=9, limit_nofile=64, limit_core=0)
    sandboxes = (
        None,
        Sandbox(level="basic", bind=["/srv:rw", "/tmp/x:rw"]),
        Sandbox(level="strict", time_namespace=True, network="loopback", bind=["/srv:/data:rw", "/opt:/usr/x"], overlay=["/home"]),
        Sandbox(level="strict", syscalls="compute", uid=7),
    )
    for sandbox in sandboxes:
        for place in (None, cgroup):
            host = Host(cgroup=place, processors=4, sandbox=SandboxFacts(landlock_abi=7, system=system))
            spec = JobSpec(
                argv=("/bin/true", "one", "two"),
                env={"A": "1", "B": ""},
                limits=limits if place else Limits(limit_nofile=64),
                sandbox=sandbox,
                working_directory="/tmp",
                umask=0o77,
                nice=1,
                cpu_affinity=(0,),
                oom_score_adjust=500,
                start_new_session=True,
                credentials=Credentials(uid=1, gid=1, groups=(1, 2)),
            )
            plan = make_plan(spec, host, make_environment({}))
            yield pack(plan, plan.hooks)


def run(folder: Path, seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """One campaign below ``folder``; what ended it, if anything did, is in ``folder/find``, four bytes of length first."""
    seeds = []
    for number, block in enumerate(blocks()):
        seeds.append(folder / f"seed-{number}")
        seeds[-1].write_bytes(block)
    command = [str(word) for word in (build(folder), seconds, seed, folder / "find", *seeds)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(argv: list[str]) -> int:
    """Fuzz for so many seconds of processor time; exit status 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.plans")
    parser.add_argument("--seconds", type=float, default=60, help="processor time (60)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same inputs (the time)")
    given = parser.parse_args(argv)
    seed = time.time_ns() if given.seed is None else given.seed
    print(f"plans: {given.seconds:g} s, seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = run(folder, given.seconds, seed)
        print(done.stdout, end="")
        if done.returncode != 0:
            raw = (folder / "find").read_bytes()
            kept = HERE / "finds" / f"plan-{seed}"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(raw[4 : 4 + int.from_bytes(raw[:4], sys.byteorder)])
            print(f"plans: FOUND, kept as {kept.relative_to(HERE.parents[1])}\n{done.stderr}", flush=True)
    return 1 if done.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
