# SPDX-License-Identifier: Apache-2.0
"""``supervisor.start`` without a scope: jobs share a supervisor of their loop, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os

import pytest
from waiting import wait_dead

import supervisor
from supervisor import ConfigError


async def test_jobs_of_one_loop_share_a_supervisor_that_closes_after_the_last() -> None:
    first, second = await asyncio.gather(supervisor.start(["true"]), supervisor.start(["sleep", "0.05"], capture_output=True))
    assert first._supervisor is second._supervisor
    assert (await first.wait()).ok and (await second.wait()).ok
    third = await supervisor.start(["true"])
    assert (await third.wait()).ok


def test_what_still_runs_ends_with_the_loop() -> None:
    async def main() -> int:
        return (await supervisor.start(["sleep", "60"])).pid

    wait_dead(asyncio.run(main()))


async def test_a_refused_start_leaves_no_supervisor_open() -> None:
    with pytest.raises(ConfigError):
        await supervisor.start([])
    assert (await (await supervisor.start(["true"])).wait()).ok


@pytest.mark.usefixtures("holder")
async def test_no_start_touches_our_own_descriptors() -> None:
    """A child begins with the parent's own table of descriptors, and has one of its own before it moves any."""
    mine = [os.open(os.devnull, os.O_RDWR) for _ in range(300)]
    before = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2, *mine)}
    async with supervisor.Supervisor() as sup:
        jobs = [
            await sup.start(["/bin/cat", "/proc/self/fd/0"], stdin=mine[-1], stdout=mine[0], stderr=supervisor.STDOUT) for _ in range(20)
        ]
        outcomes = [await job.wait() for job in jobs]
        given = await sup.run(
            ["/bin/sh", "-c", f"ls /proc/self/fd; readlink /proc/self/fd/{mine[-1]}"], pass_fds=[mine[-1]], capture_output=True
        )
    after = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2, *mine)}
    for fd in mine:
        os.close(fd)
    assert {outcome.verdict for outcome in outcomes} == {"ok"}
    assert after == before
    assert set(given.stdout.split()) - {b"3"} == {b"0", b"1", b"2", b"%d" % mine[-1], b"/dev/null"}
