# SPDX-License-Identifier: Apache-2.0
"""A tree that takes its time to stop (a task deep in the kernel) keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from programs import python
from waiting import PATIENCE, Line

import supervisor
from supervisor.kernel import tree
from supervisor.kernel.cgroup import Cgroup

pytestmark = pytest.mark.requires("cgroup")


class Slow:
    """Freezing takes until :meth:`stop`."""

    def __init__(self, wait: object) -> None:
        self.begun = threading.Event()
        self._stopped = threading.Event()
        self._wait = wait
        self.error: OSError | None = None

    def wait_frozen(self, cgroup: Cgroup, patience_ms: int, below: str = "") -> bool:
        if patience_ms == tree.FROZEN_AT_ONCE_MS:
            return False
        self.begun.set()
        assert self._stopped.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return bool(self._wait(cgroup, patience_ms, below))  # type: ignore[operator]

    def stop(self) -> None:
        self._stopped.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    found = Slow(tree.wait_frozen)
    monkeypatch.setattr(tree, "wait_frozen", found.wait_frozen)
    yield found
    found.stop()


@asynccontextmanager
async def pausing(slow: Slow) -> AsyncIterator[tuple[supervisor.Job, asyncio.Task[None]]]:
    """A job that is being paused: asked to stop, and not stopped yet."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        task = asyncio.create_task(job.pause())
        await asyncio.to_thread(slow.begun.wait, PATIENCE)
        try:
            yield job, task
        finally:
            slow.stop()
            await asyncio.wait([task])


async def test_the_loop_goes_on_and_the_job_is_paused_when_it_has_stopped(slow: Slow) -> None:
    async with pausing(slow) as (job, task):
        assert job.state == "running" and not task.done()
        slow.stop()
        await task
        assert job.state == "paused"


async def test_one_that_is_resumed_meanwhile_runs(slow: Slow) -> None:
    async with pausing(slow) as (job, task):
        await job.resume()
        slow.stop()
        await task
        assert job.state == "running"


async def test_one_that_is_killed_meanwhile_ends_and_its_cgroup_goes_when_nobody_looks_at_it(slow: Slow) -> None:
    async with pausing(slow) as (job, task):
        assert (await job.kill()).verdict == "cancelled"
        slow.stop()
        await task


async def test_one_that_is_terminated_meanwhile_may_react(slow: Slow) -> None:
    async with pausing(slow) as (job, task):
        outcome = await job.terminate(PATIENCE)
        assert outcome.exit.signal == 15
        slow.stop()
        await task


async def test_one_that_cannot_be_watched_to_its_stop_runs_on(slow: Slow) -> None:
    slow.error = OSError(errno.EMFILE, "too many open files")
    async with pausing(slow) as (job, task):
        slow.stop()
        with pytest.raises(OSError, match="too many open files"):
            await task
        assert job.state == "running" and job.paused_ns == job.paused_ns  # its clock does not stand still


async def test_a_cancelled_pause_is_whole(slow: Slow) -> None:
    async with pausing(slow) as (job, task):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        slow.stop()
        await asyncio.wait([task])
        assert task.cancelled() and job.state == "paused"


async def test_a_tree_that_cannot_be_watched_while_it_stops_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with supervisor.Supervisor() as sup:
        with Line() as line:
            job = await sup.start(
                python("import os, sys\nwhile input(): os.write(int(sys.argv[1]), b'here\\n')", line.end),
                stdin=supervisor.PIPE,
                pass_fds=[line.end],
            )

            def no_descriptor(_self: Cgroup, below: str = "") -> int:
                raise OSError(errno.EMFILE, "too many open files")

            assert job.stdin is not None
            with monkeypatch.context() as broken:
                broken.setattr(Cgroup, "open_events", no_descriptor)
                with pytest.raises(OSError, match="too many open files"):
                    await job.pause()
            assert job.state == "running" and job.paused_ns == 0
            job.stdin.write(b"x\n")
            assert await asyncio.to_thread(line.read) == "here"
