# SPDX-License-Identifier: Apache-2.0
"""Single processes of a tree: who belongs to it, and a signal for each."""

from __future__ import annotations

import asyncio
import os

import pytest
from programs import probe
from waiting import Line

from supervisor import JobSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")


async def test_a_job_owns_its_processes_and_no_others() -> None:
    """Its main process and its detached daemon; not us, not process 1, not another job, and nobody once it is over."""
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(probe("daemon", "daemon", line.end, "stay"), pass_fds=[line.end])
            other = await sup.start(["sleep", "60"], kill_grace=0)
            daemon = int(await asyncio.to_thread(line.read))
            assert job.owns(job.pid) and job.owns(daemon)
            assert not [pid for pid in (os.getpid(), 1, 0, -1, other.pid) if job.owns(pid)]
            await job.kill()
            assert not job.owns(daemon)
            await other.kill()


async def test_a_stop_by_control_group_reaches_every_process() -> None:
    """Twenty processes that tell of SIGTERM; kill_mode of a job, without any service."""
    with Line() as line:
        script = "".join('"$@" & ' for _ in range(20)) + "trap 'wait; exit 0' TERM; while :; do wait; done"
        hearing = probe("notify", f"hear:{line.end}", f"tell:{line.end}:ready", "wait")
        spec = JobSpec(
            argv=["/bin/sh", "-c", script, "sh", *hearing], pass_fds=(line.end,), kill_mode="control-group", kill_grace_ns=20 * 10**9
        )
        async with Supervisor() as sup:
            job = await sup.start(spec)
            assert [await asyncio.to_thread(line.read) for _ in range(20)] == ["ready"] * 20
            outcome = await job.terminate()
            assert outcome.exit.code == 0
        line.release()
        assert [line.read() for _ in range(21)] == ["TERM"] * 20 + [""]
