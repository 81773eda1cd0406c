# SPDX-License-Identifier: Apache-2.0
"""What jobs held is given back while nothing is being launched, and never later than after a few more ends."""

from __future__ import annotations

import asyncio
import os

import pytest

import supervisor
from supervisor.runtime.releases import WAITING_MAX, Releases


async def turn() -> None:
    """Long enough for what was to come soon."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_it_comes_after_those_who_wait_have_been_told() -> None:
    releases, came = Releases(), list[str]()
    asyncio.get_running_loop().call_soon(came.append, "told")
    releases.add(lambda: came.append("released"))
    assert came == []
    await turn()
    assert came == ["told", "released"]


async def test_it_waits_for_every_launch_that_is_under_way() -> None:
    releases, came = Releases(), list[int]()
    for number in range(3):
        releases.add(lambda number=number: came.append(number))  # type: ignore[misc]
    releases.launching()
    releases.launching()
    await turn()
    releases.launched()
    await turn()
    assert came == []
    releases.launched()
    await turn()
    assert came == [0, 1, 2]


async def test_who_launches_without_a_pause_has_a_bounded_number_waiting() -> None:
    releases, came = Releases(), list[int]()
    releases.launching()
    for number in range(WAITING_MAX):
        releases.add(lambda number=number: came.append(number))  # type: ignore[misc]
    await turn()
    assert came == []
    releases.add(lambda: came.append(-1))
    await turn()
    assert came == [*range(WAITING_MAX), -1]


async def test_a_launch_that_takes_long_keeps_nothing_for_long() -> None:
    releases, came = Releases(), asyncio.Event()
    releases.launching()
    releases.add(came.set)
    await turn()
    assert not came.is_set()
    await asyncio.wait_for(came.wait(), 20)


async def test_one_that_raises_does_not_keep_the_others() -> None:
    releases, came, said = Releases(), list[int](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["exception"]))

    def fail() -> None:
        raise ValueError("one of them")

    releases.add(fail)
    releases.add(lambda: came.append(1))
    await turn()
    await turn()
    assert came == [1]
    assert [str(error) for error in said] == ["one of them"]


@pytest.mark.requires("cgroup")
@pytest.mark.requires("mount")
async def test_the_cgroups_of_jobs_that_followed_one_another_are_gone_while_the_last_one_runs() -> None:
    async with supervisor.Supervisor() as sup:
        root, _ = sup.stands_on()
        assert root is not None
        for _ in range(20):
            await (await sup.start(["/bin/true"], sandbox="strict")).wait()
        last = await sup.start(["/bin/sleep", "1000"], sandbox="strict")
        async with asyncio.timeout(20):
            while [name for name in os.listdir(f"/proc/self/fd/{root.fd}") if name.startswith("job-")] != [f"job-{last.id}"]:
                await asyncio.sleep(0.002)  # the kernel has no event for it
        await last.kill()
