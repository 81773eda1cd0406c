# SPDX-License-Identifier: Apache-2.0
"""Limits changed while a job runs: the kernel holds the new ones, all or nothing, in every state or refused."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from programs import python, sh
from waiting import Line, eventually

import supervisor
from supervisor import ClosedError, ConfigError, LimitsChanged, UnsupportedError
from supervisor.kernel.relimit import apply_limits
from supervisor.model.limit_kinds import Rlimit


@pytest.mark.usefixtures("holder")
async def test_a_shorter_wall_time_ends_the_job_and_a_longer_one_lets_it_go_on() -> None:
    async with supervisor.Supervisor() as sup:
        short = await sup.start(["sleep", "60"])
        longer = await sup.start(["sleep", "0.4"], limits={"wall_time_max": 0.2})
        enforcement = await short.set_limits(wall_time_max="0.1s")
        assert enforcement == {"wall_time_max": "timer on CLOCK_MONOTONIC"}
        await longer.set_limits(wall_time_max=30)
        assert (await short.wait()).verdict == "wall_limit"
        assert (await longer.wait()).verdict == "ok"
        assert short.limits.wall_time_max == 100_000_000


@pytest.mark.usefixtures("holder")
async def test_processor_time_already_used_counts_against_a_new_limit() -> None:
    with Line() as line:
        async with supervisor.Supervisor() as sup:
            program = (
                "import os, sys, time\nwhile time.process_time() < 0.3: pass\nos.write(int(sys.argv[1]), b'spent\\n')\nwhile True: pass"
            )
            job = await sup.start(python(program, line.end), pass_fds=[line.end], limits={"cpu_time_max": 60})
            assert await asyncio.to_thread(line.read) == "spent"
            await job.set_limits(cpu_time_max=0.2)
            outcome = await job.wait()
    assert outcome.verdict == "cpu_limit" and outcome.limits_hit == ("cpu_time_max",)


@pytest.mark.usefixtures("holder")
async def test_rlimits_reach_every_process_of_the_tree() -> None:
    with Line() as line:
        program = "import os, sys, time\nos.fork()\nos.write(int(sys.argv[1]), b'%d\\n' % os.getpid())\ntime.sleep(60)"
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(program, line.end), pass_fds=[line.end])
            pids = [int(await asyncio.to_thread(line.read)) for _ in range(2)]
            await job.set_limits(limit_nofile="33:44")
            assert [resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids] == [(33, 44), (33, 44)]
            await job.kill()


async def test_an_output_cap_below_what_was_written_ends_the_job() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("import time\nprint('x' * 5000, flush=True)\ntime.sleep(60)"), capture_output=True)
        async for event in job.events():
            if event.kind == "output":
                break
        await job.set_limits(output_max=100)
        outcome = await job.wait()
    assert outcome.verdict == "output_limit"


async def test_a_refused_change_leaves_everything_as_it_was() -> None:
    """The rlimit would be set first; the limit that cannot be had refuses both."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"limit_nofile": 50})
        with pytest.raises(UnsupportedError, match="allowed_cpus"):
            await job.set_limits(limit_nofile=20, allowed_cpus="0")
        assert resource.prlimit(job.pid, resource.RLIMIT_NOFILE) == (50, 50)
        with pytest.raises(UnsupportedError, match="output does not pass"):
            await job.set_limits(output_max=100)
        with pytest.raises(ConfigError, match=r"memory_mx.*memory_max"):
            await job.set_limits(memory_mx="1M")
        with pytest.raises(ConfigError, match="none given"):
            await job.set_limits()
        await job.kill()


@pytest.mark.usefixtures("holder")
async def test_a_paused_job_can_be_changed_and_its_clock_still_stands() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        await job.pause()
        await job.set_limits(wall_time_max=0.2)
        await asyncio.sleep(0.4)
        assert job.state == "paused"
        await job.resume()
        outcome = await job.wait()
    assert outcome.verdict == "wall_limit" and outcome.usage.paused_ns >= 0.4e9


@pytest.mark.usefixtures("holder")
async def test_a_change_that_loses_sight_of_the_tree_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left for the second walk, when the first has set the limit already."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/bin/sleep", "60"])
        tree = job._execution.tree
        assert tree is not None
        before, walks, members = resource.prlimit(job.pid, resource.RLIMIT_NOFILE), [0], type(tree).members

        def look(tree: Any) -> list[int]:
            walks[0] += 1
            if walks[0] == 2:
                assert resource.prlimit(job.pid, resource.RLIMIT_NOFILE) == (77, before[1])
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return members(tree)

        monkeypatch.setattr(type(tree), "members", look)
        with pytest.raises(OSError, match="Too many open files"):
            await job.set_limits(limit_nofile=f"77:{before[1]}")
        assert resource.prlimit(job.pid, resource.RLIMIT_NOFILE) == before and job.limits.limit_nofile is None
        await job.kill()


async def test_a_job_that_is_over_refuses() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["true"])
        await job.wait()
        with pytest.raises(ClosedError, match="terminated"):
            await job.set_limits(wall_time_max=1)


async def test_changes_at_once_take_turns_and_a_cancelled_one_is_still_whole() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        reader = job.events()
        tasks = [asyncio.create_task(job.set_limits(limit_nofile=n)) for n in (60, 50, 40)]
        cancelled = asyncio.create_task(job.set_limits(limit_nofile=30))
        await asyncio.gather(*tasks)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        seen = job.limits.limit_nofile.soft
        assert seen in (30, 40) and resource.prlimit(job.pid, resource.RLIMIT_NOFILE)[0] == seen
        await job.kill()
        told = [event.limits["limit_nofile"].soft async for event in reader if isinstance(event, LimitsChanged)]
    assert told[:3] == [60, 50, 40] and told[-1] == seen


# by controllers


@pytest.mark.requires("memory")
@pytest.mark.parametrize("limits", [{}, {"memory_max": "1G"}], ids=["no limit before", "another before"])
async def test_a_lower_memory_max_is_held_by_the_kernel_at_once(limits: dict[str, str]) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("input()\nx = bytearray(b'x') * (400 << 20)"), stdin=read_end, limits=limits)
        os.close(read_end)
        enforcement = await job.set_limits(memory_max="48M")
        os.write(write_end, b"go\n")
        os.close(write_end)
        assert enforcement["memory_max"] == "cgroup memory.max"
        outcome = await job.wait()
    assert outcome.verdict == "memory_limit", outcome


@pytest.mark.requires("memory")
async def test_a_raised_memory_max_lets_a_job_take_what_it_was_refused_before() -> None:
    with Line() as line:
        program = "import sys\nsys.stdin.readline()\nx = bytearray(100 << 20)\nprint(len(x))"
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(program), stdin=read_end, limits={"memory_max": "64M"}, stdout=line.end)
            os.close(read_end)
            await job.set_limits(memory_max="400M")
            os.write(write_end, b"go\n")
            os.close(write_end)
            outcome = await job.wait()
        assert outcome.verdict == "ok" and line.read() == str(100 << 20)


@pytest.mark.requires("memory", "mount")
async def test_a_strict_job_that_began_without_limits_can_be_held_to_some() -> None:
    """It is in its box itself, where the limit stands then."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    async with supervisor.Supervisor() as sup:
        hungry = sh("read go; head -c 400000000 /dev/zero | tail -c 400000000")
        job = await sup.start(hungry, stdin=read_end, stdout=supervisor.DEVNULL, sandbox="strict")
        os.close(read_end)
        await job.set_limits(memory_max="48M")
        os.write(write_end, b"go\n")
        os.close(write_end)
        outcome = await job.wait()
    assert (outcome.verdict, outcome.limits_hit) == ("memory_limit", ("memory_max",)), outcome


@pytest.mark.requires("memory")
async def test_a_protection_stands_on_every_level_of_a_running_job() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"memory_max": "64M"})
        await job.set_limits(memory_low="8M")
        leaf = Path("/sys/fs/cgroup" + Path(f"/proc/{job.pid}/cgroup").read_text().strip().rpartition(":")[2])
        found = [(folder / "memory.low").read_text().strip() for folder in (leaf, *leaf.parents[:2])]
        await job.kill()
    assert found == ["8388608"] * 3


@pytest.mark.requires("pids")
async def test_tasks_max_can_be_set_on_a_job_that_had_none_and_lifted_again() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        assert (await job.set_limits(tasks_max=5))["tasks_max"] == "cgroup pids.max"
        await job.set_limits(tasks_max="infinity")
        await job.kill()


async def test_a_change_of_a_job_that_dies_meanwhile_holds_or_is_refused() -> None:
    """Whoever is told that a limit holds can read it."""
    async with supervisor.Supervisor() as sup:
        for turn in range(60):
            job = await sup.start(["/bin/sleep", "60"])
            if turn % 2:
                os.kill(job.pid, signal.SIGKILL)
                changing = asyncio.ensure_future(job.set_limits(limit_nofile=77))
            else:
                changing = asyncio.ensure_future(job.set_limits(limit_nofile=77))
                await asyncio.sleep(0)
                os.kill(job.pid, signal.SIGKILL)
            try:
                await changing
            except ClosedError:
                continue
            assert job.limits.limit_nofile == Rlimit(soft=77, hard=77)


@pytest.mark.usefixtures("holder")
async def test_an_end_that_comes_while_the_limits_are_written_is_told_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a lower memory_max ends the job: it took effect, so it is no refusal, and the job is judged by it."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/bin/sleep", "60"])
        reader = job.events()

        def apply_and_end(*arguments: Any) -> None:
            apply_limits(*arguments)
            os.kill(job.pid, signal.SIGKILL)
            eventually(lambda: job._execution._end.empty)

        monkeypatch.setattr("supervisor.runtime.set_limits.apply_limits", apply_and_end)
        assert await job.set_limits(limit_nofile=77)
        assert (await job.wait()).exit.signal == signal.SIGKILL
        told = [event.kind async for event in reader]
    assert told.index("limits_changed") < told.index("terminated") and job.limits.limit_nofile == Rlimit(soft=77, hard=77)
