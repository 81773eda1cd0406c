# SPDX-License-Identifier: Apache-2.0
"""``supervisor.start`` without a scope: jobs share a supervisor of their loop, and nothing stays behind."""

from __future__ import annotations

import asyncio

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
