# SPDX-License-Identifier: Apache-2.0
"""PolicyWatch: a changed file reaches the jobs that run under it, and nothing else wakes anybody.

The kernel's inotify, the jobs and their limits are real; two tests hold a change up on its way to a job.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import Line

from supervisor import ConfigError, Job, Limits, Supervisor
from supervisor.runtime.policy_watch import PolicyWatch, Reloaded

PATIENCE = 20


def soft_limit(job: Job, words: str) -> str:
    """The kernel's own word on an rlimit of the job's main process."""
    with open(f"/proc/{job.pid}/limits", encoding="ascii") as file:
        return next(line for line in file if line.startswith(words)).removeprefix(words).split()[0]


def files_of(job: Job) -> str:
    return soft_limit(job, "Max open files")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy file, and no places besides the library."""
    config = tmp_path / "config"
    config.mkdir()
    monkeypatch.setenv("RINGFENCE_CONFIG", str(config))
    monkeypatch.chdir(config)
    folder = tmp_path / "files"
    folder.mkdir()
    path = folder / "policy.toml"
    put(path, limit_nofile=64)
    return path


@pytest.fixture
def sleeper() -> Any:
    """Starts a job that sleeps, under the watch's policy and what is given besides."""

    async def start(sup: Supervisor, watch: PolicyWatch, **limits: Any) -> Job:
        job = await sup.start(["sleep", "60"], policy=watch.policy, limits=limits)
        watch.attach(job, Limits(**limits))
        return job

    return start


def put(path: Path, **limits: Any) -> None:
    """Write a profile beside its place and put it there, as the documentation advises."""
    lines = [f"{name} = {item!r}".replace("'", '"') for name, item in limits.items()]
    fresh = path.with_name("fresh")
    fresh.write_text("[profile.p]\n" + "\n".join(lines) + "\n")
    fresh.rename(path)


async def next_of(changes: Any) -> Reloaded:
    found = await asyncio.wait_for(anext(changes), PATIENCE)
    assert isinstance(found, Reloaded)
    return found


async def test_a_changed_file_reaches_running_jobs(file: Path, sleeper: Any) -> None:
    """The kernel holds the process to the new value; what only a new job can have is said."""
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        assert files_of(job) == "64"
        put(file, limit_nofile=32, best_effort=["io_weight"])
        change = await next_of(changes)
        assert not change.problems and files_of(job) == "32"
        (brought,) = change.jobs
        assert brought.job_id == job.id and not brought.refused
        assert [item.key for item in brought.decided.deferred] == ["best_effort"]
        await job.kill()


async def test_a_time_limit_that_is_passed_already_ends_the_job(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        put(file, limit_nofile=64, wall_time_max="1ms")
        await next_of(changes)
        assert (await asyncio.wait_for(job.wait(), PATIENCE)).verdict == "wall_limit"


async def test_a_file_that_is_written_in_place_is_read_when_its_writer_closes_it(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        with file.open("w") as half:
            half.write("[profile.p]\nlimit_nofile = 32\n")
            half.flush()
            half.write("limit_core = 0\n")
        change = await next_of(changes)
        assert set(change.jobs[0].decided.apply.given()) == {"limit_nofile", "limit_core"}
        assert (files_of(job), soft_limit(job, "Max core file size")) == ("32", "0")
        await job.kill()


async def test_a_jobs_own_limits_are_never_loosened(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch, limit_nofile=48), aiter(watch)
        put(file, limit_nofile=56)
        await next_of(changes)
        assert files_of(job) == "48"
        put(file, limit_nofile=32)
        await next_of(changes)
        assert files_of(job) == "32"
        await job.kill()


async def test_a_wrong_file_changes_nothing_and_is_told_once(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        put(file, limit_nofil=32)
        change = await next_of(changes)
        assert change.problems == (f"{file}:2: limit_nofil: unknown key; did you mean 'limit_nofile'?",)
        assert change.policy == watch.policy and files_of(job) == "64"
        put(file, limit_nofil=32)  # the same again
        put(file, limit_nofile=32)
        change = await next_of(changes)
        assert not change.problems and files_of(job) == "32"
        await job.kill()


async def test_a_file_that_is_gone_leaves_jobs_as_they_are_until_it_is_back(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        file.unlink()
        assert (await next_of(changes)).problems == (f"{file}: No such file or directory",)
        assert files_of(job) == "64"
        put(file, limit_nofile=32)
        await next_of(changes)
        assert files_of(job) == "32"
        await job.kill()


async def test_what_only_looks_different_is_no_change(file: Path) -> None:
    async with PolicyWatch(str(file)) as watch:
        changes = aiter(watch)
        put(file, description="new words", limit_nofile="64:64")
        put(file, limit_nofile=32)
        assert str((await next_of(changes)).policy.limits.limit_nofile) == "32"


async def test_a_link_that_is_turned_elsewhere_is_a_change(file: Path) -> None:
    """As config maps of Kubernetes are replaced: a link to a directory is renamed over the old one."""
    old, new, link = (file.parent / name for name in ("old", "new", "current"))
    for folder, amount in ((old, "64M"), (new, "32M")):
        folder.mkdir()
        put(folder / "policy.toml", memory_max=amount)
    link.symlink_to("old")
    shown = file.parent / "shown.toml"
    shown.symlink_to("current/policy.toml")
    async with PolicyWatch(str(shown)) as watch:
        changes = aiter(watch)
        put(old / "policy.toml", memory_max="16M")
        assert (await next_of(changes)).policy.limits.memory_max == 16 << 20
        (file.parent / "next").symlink_to("new")
        os.rename(file.parent / "next", link)
        assert (await next_of(changes)).policy.limits.memory_max == 32 << 20


async def test_a_profile_of_a_place_is_found_when_its_folder_appears(file: Path, tmp_path: Path) -> None:
    """The folder of drop-ins does not exist yet when the watch begins."""
    async with PolicyWatch("judge") as watch:
        changes = aiter(watch)
        folder = tmp_path / "config" / "policy.d"
        folder.mkdir()
        fresh = tmp_path / "fresh"
        fresh.write_text('[profile.judge]\nextends = "judge"\nmemory_max = "1G"\n')
        fresh.rename(folder / "judge.toml")
        change = await next_of(changes)
        assert change.policy.limits.memory_max == 1 << 30
        assert change.policy.chain[0] == f"{folder}/judge.toml#judge"


async def test_one_refusal_keeps_no_other_limit_back(file: Path, sleeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the job has raised its soft limit meanwhile, say; whatever refuses, the rest is applied and the refusal told."""
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        real = Job.set_limits

        async def set_limits(self: Job, limits: Limits, /) -> Any:
            if limits.limit_core is not None:
                raise OSError(16, "Device or resource busy")
            return await real(self, limits)

        monkeypatch.setattr(Job, "set_limits", set_limits)
        put(file, limit_nofile=32, limit_core=0)
        (brought,) = (await next_of(changes)).jobs
        assert set(brought.refused) == {"limit_core"} and files_of(job) == "32"
        await job.kill()


async def test_what_was_deferred_is_compared_with_what_the_job_still_has(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        put(file, wall_time_max="1h")  # a job's limit on files cannot be lifted
        assert [item.key for item in (await next_of(changes)).jobs[0].decided.deferred] == ["limit_nofile"]
        put(file, limit_nofile=64)
        (brought,) = (await next_of(changes)).jobs
        assert not brought.decided.deferred and set(brought.decided.apply.given()) == {"wall_time_max"}
        await job.kill()


async def test_cancelled_in_the_middle_it_goes_on_where_it_ended(file: Path, sleeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        jobs = [await sleeper(sup, watch) for _ in range(2)]
        gate, reached, real = asyncio.Event(), asyncio.Event(), Job.set_limits

        async def set_limits(self: Job, limits: Limits, /) -> Any:
            if self is jobs[1]:
                reached.set()
                await gate.wait()
            return await real(self, limits)

        monkeypatch.setattr(Job, "set_limits", set_limits)
        put(file, limit_nofile=32)
        waiting = asyncio.ensure_future(anext(aiter(watch)))
        await asyncio.wait_for(reached.wait(), PATIENCE)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        change = await next_of(aiter(watch))
        assert [brought.job_id for brought in change.jobs] == [jobs[1].id]
        assert [files_of(job) for job in jobs] == ["32", "32"]
        for job in jobs:
            await job.kill()


async def test_jobs_that_have_ended_are_left_alone(file: Path, sleeper: Any) -> None:
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        job, changes = await sleeper(sup, watch), aiter(watch)
        await job.kill()
        put(file, limit_nofile=32)
        assert (await next_of(changes)).jobs == ()


async def test_closing_ends_the_iteration(file: Path) -> None:
    watch = PolicyWatch(str(file))
    async with watch:
        waiting = asyncio.ensure_future(anext(aiter(watch), None))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(waiting, PATIENCE) is None
    watch.close()


async def test_a_wrong_reference_is_refused_at_the_start_and_nothing_stays_open(file: Path) -> None:
    with pytest.raises(ConfigError, match="no profile 'nobody'"):
        async with PolicyWatch("nobody"):
            pass


@pytest.mark.requires("memory")
async def test_less_memory_than_a_job_uses_ends_it(file: Path) -> None:
    """The share of the host that a policy says becomes an amount, and the kernel holds the job to it at once."""
    put(file, memory_max="256M")
    program = "import os, sys, signal\nheld = bytearray(96 << 20)\nos.write(int(sys.argv[1]), b'ready\\n')\nsignal.pause()"
    async with Supervisor() as sup, PolicyWatch(str(file)) as watch:
        with Line() as line:
            job = await sup.start([sys.executable, "-c", program, str(line.end)], policy=watch.policy, pass_fds=[line.end])
            line.release()
            assert await asyncio.to_thread(line.read) == "ready"
        watch.attach(job)
        put(file, memory_max="0.5%")
        (brought,) = (await next_of(aiter(watch))).jobs
        assert not brought.refused and any("reclaimed" in note for note in brought.decided.notes)
        assert (await asyncio.wait_for(job.wait(), PATIENCE)).verdict == "memory_limit"
