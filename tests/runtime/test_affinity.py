# SPDX-License-Identifier: Apache-2.0
"""Where a job may run: it begins on the processor of whoever starts it, and is bound to none that it was not bound to before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from programs import python
from sandboxes import run_strict, said

import supervisor

SHOW = "import os; print(sorted(os.sched_getaffinity(0)))"


@pytest.mark.usefixtures("holder")
def test_a_job_may_run_where_its_starter_may_and_so_may_the_starter() -> None:
    """Also behind the init helper, which binds itself in turn."""
    before = os.sched_getaffinity(0)
    shown = supervisor.run(python(SHOW), capture_output=True, text=True).stdout
    assert shown == f"{sorted(before)}\n"
    assert os.sched_getaffinity(0) == before


async def test_a_job_of_a_supervisor_may_too() -> None:
    """Its spawners are threads of their own, and start one job after another."""
    async with supervisor.Supervisor() as sup:
        shown = {(await sup.run(python(SHOW), capture_output=True, text=True)).stdout for _ in range(6)}
    assert shown == {f"{sorted(os.sched_getaffinity(0))}\n"}


@pytest.mark.requires("mount")
@pytest.mark.usefixtures("holder")
def test_a_strict_job_may_too() -> None:
    assert said(run_strict(SHOW)) == str(sorted(os.sched_getaffinity(0)))


@pytest.mark.requires("processors")
@pytest.mark.parametrize("processor", [0, 1])
def test_whoever_is_bound_to_one_processor_starts_jobs_that_are(processor: int) -> None:
    """And is still bound to it itself."""
    code = (
        f"import os, sys, supervisor\nos.sched_setaffinity(0, {{{processor}}})\n"
        f"print(supervisor.run([sys.executable, '-c', {SHOW!r}], capture_output=True, text=True).stdout, os.sched_getaffinity(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{processor}]\n {{{processor}}}\n"


#: Put a system call filter on this process that kills it for sched_setaffinity, as a service manager's does for a group of calls.
FILTER = """
import ctypes, os, struct
number = {"x86_64": 203, "aarch64": 122}[os.uname().machine]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
"""


@pytest.mark.requires("mount")
@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("level", ["none", "strict"])
def test_whoever_would_be_killed_for_binding_itself_starts_jobs(level: str) -> None:
    """Nor does the init helper, which the filter holds too."""
    code = f"{FILTER}\nimport supervisor\nprint(supervisor.run(['true'], sandbox={level!r}).verdict)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.requires("cpuset", "processors")
async def test_a_job_follows_its_starters_cpuset_when_that_grows() -> None:
    """The kernel remembers what a process asked for, and leaves it no more even where more is allowed later: nothing was asked for."""
    inner = f"print('here', flush=True); input(); {SHOW}"
    code = f"import sys, supervisor\nsupervisor.run([sys.executable, '-c', {inner!r}], stdin=0, stdout=1)"
    async with supervisor.Supervisor() as sup:
        job = await sup.start([sys.executable, "-c", code], limits={"allowed_cpus": "1"}, stdin=supervisor.PIPE, stdout=supervisor.PIPE)
        assert job.stdin is not None and job.stdout is not None
        assert await job.stdout.readline() == b"here\n"
        await job.set_limits(allowed_cpus="0-1")
        job.stdin.writelines([b"\n"])
        job.stdin.close()
        assert await job.stdout.readline() == b"[0, 1]\n"
        await job.wait()
