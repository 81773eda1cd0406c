# SPDX-License-Identifier: Apache-2.0
"""A short stress finds nothing, and the claims that it makes can fail."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import Supervisor
from tests.stress.actors import ACTORS
from tests.stress.campaign import campaign
from tests.stress.ground import Broken, Ground
from tests.stress.holding import Holding
from tests.stress.kills import Killer


@pytest.mark.timeout(180)
def test_ten_seconds_of_everything_with_random_kills_leave_nothing() -> None:
    report = campaign(10, seed="1", round_seconds=5)
    assert report.rounds >= 2
    assert report.jobs > 50
    assert set(report.kills) <= {"job", "stream", "peer", "memory", "worker", "template", "command worker", "service", "scope"}
    assert report.kills.total() > 10
    assert {
        name for name in ("jobs", "streams", "messages", "rings", "tasks", "service steps", "scopes") if not report.counts[name]
    } == set()


@pytest.mark.timeout(180)
def test_the_same_where_a_helper_holds_every_tree(no_cgroup: None) -> None:
    report = campaign(5, seed="2", round_seconds=4)
    assert report.kills.total() > 5


@pytest.mark.timeout(180)
@pytest.mark.requires("uvloop")
def test_the_same_on_uvloop() -> None:
    """In a process of its own: uvloop keeps a pipe for ever."""
    command = [sys.executable, "-W", "error", "-m", "tests.stress", "--loop", "uvloop", "--seconds", "6", "--round", "4", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events without a hole" in done.stdout


async def test_what_is_left_open_is_seen(tmp_path: Path) -> None:
    before = Holding.now(tmp_path)
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "left").touch()
    child = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    said = Holding.now(tmp_path).more_than(before)
    child.kill()
    await child.wait()
    os.close(fd)
    assert "descriptors: " in said
    assert "files: left" in said
    assert "children: " in said


async def test_a_call_that_does_not_return_a_wrong_verdict_and_a_strangers_kill_are_seen(tmp_path: Path) -> None:
    async with Supervisor() as sup:
        ground = Ground(sup, Killer(random.Random(1)), tmp_path, "1", bound=0.1)
        with pytest.raises(Broken, match=r"waiting has not returned within 0\.1 s"):
            await ground.within("waiting", asyncio.sleep(60))
        job = await sup.start(["/bin/false"])
        with pytest.raises(Broken, match="wanted ok"):
            ground.check_end(job, await job.wait(), ("ok",))
        job = await sup.start(["/bin/sleep", "60"])
        os.kill(job.pid, 9)
        with pytest.raises(Broken, match="was killed, and not by us"):
            ground.check_end(job, await job.wait(), ("ok",))


def test_every_choice_follows_from_the_seed(tmp_path: Path) -> None:
    ground, again = (Ground(Supervisor(), Killer(random.Random(1)), tmp_path, "7/0") for _ in range(2))
    assert [ground.chance(name).random() for name in ACTORS] == [again.chance(name).random() for name in ACTORS]
