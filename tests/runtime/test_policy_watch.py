# SPDX-License-Identifier: Apache-2.0
"""PolicyWatch: a changed file reaches the jobs that run under it, and nothing else wakes anybody.

The kernel's inotify is real; the job is what a watch needs of one, and remembers what it was told.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from supervisor import CgroupError, ConfigError, Limits
from supervisor.model.host import CONTROLLERS, CgroupFacts, Host
from supervisor.runtime.policy_watch import PolicyWatch, Reloaded

HOST = Host(cgroup=CgroupFacts(source="root", path="/", controllers=frozenset(CONTROLLERS)), memory_total_bytes=1 << 34)
PATIENCE = 20


class ToldJob:
    """A job that remembers which limits it was given."""

    def __init__(self, number: int = 1) -> None:
        self.id = number
        self.ended = False
        self.told: list[dict[str, Any]] = []
        self.refuses = False
        self.gate: asyncio.Event | None = None

    async def set_limits(self, **limits: Any) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.refuses:
            raise CgroupError(16, "Device or resource busy", "memory.max", "write")
        self.told.append(limits)


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
    put(path, memory_max="64M")
    return path


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


async def test_a_changed_file_reaches_running_jobs(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        put(file, memory_max="128M", limit_nofile=64)
        change = await next_of(changes)
        assert change.policy.limits.memory_max == 128 << 20 and not change.problems
        assert job.told == [{"memory_max": "128M"}]
        (brought,) = change.jobs
        assert brought.job_id == 1 and [item.key for item in brought.decided.deferred] == ["limit_nofile"]


async def test_a_file_that_is_written_in_place_is_read_when_its_writer_closes_it(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        with file.open("w") as half:
            half.write('[profile.p]\nmemory_max = "1G"\n')
            half.flush()
            half.write('memory_high = "1G"\n')
        await next_of(changes)
        assert job.told == [{"memory_max": "1G", "memory_high": "1G"}] or job.told == [{"memory_high": "1G", "memory_max": "1G"}]


async def test_a_jobs_own_limits_are_never_loosened(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job, Limits(memory_max="96M"))
        put(file, memory_max="1G", tasks_max=5)
        await next_of(changes)
        assert job.told == [{"memory_max": "96M", "tasks_max": "5"}]


async def test_a_wrong_file_changes_nothing_and_is_told_once(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        put(file, memory_mx="1G")
        change = await next_of(changes)
        assert change.problems == (f"{file}:2: memory_mx: unknown key; did you mean 'memory_max'?",)
        assert change.policy.limits.memory_max == watch.policy.limits.memory_max == 64 << 20
        put(file, memory_mx="1G")  # the same again
        put(file, memory_max="32M")
        change = await next_of(changes)
        assert not change.problems and job.told == [{"memory_max": "32M"}]


async def test_a_file_that_is_gone_leaves_jobs_as_they_are_until_it_is_back(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        file.unlink()
        assert (await next_of(changes)).problems == (f"{file}: No such file or directory",)
        put(file, memory_max="32M")
        await next_of(changes)
        assert job.told == [{"memory_max": "32M"}]


async def test_what_only_looks_different_is_no_change(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        put(file, description="new words", memory_max="65536K")
        put(file, memory_max="32M")
        change = await next_of(changes)
        assert change.policy.limits.memory_max == 32 << 20
        assert job.told == [{"memory_max": "32M"}]


async def test_a_link_that_is_turned_elsewhere_is_a_change(file: Path) -> None:
    """As config maps of Kubernetes are replaced: a link to a directory is renamed over the old one."""
    old, new, link = (file.parent / name for name in ("old", "new", "current"))
    for folder, amount in ((old, "64M"), (new, "32M")):
        folder.mkdir()
        put(folder / "policy.toml", memory_max=amount)
    link.symlink_to("old")
    shown = file.parent / "shown.toml"
    shown.symlink_to("current/policy.toml")
    async with PolicyWatch(str(shown), HOST) as watch:
        changes = aiter(watch)
        put(old / "policy.toml", memory_max="16M")
        assert (await next_of(changes)).policy.limits.memory_max == 16 << 20
        (file.parent / "next").symlink_to("new")
        os.rename(file.parent / "next", link)
        assert (await next_of(changes)).policy.limits.memory_max == 32 << 20


async def test_a_profile_of_a_place_is_found_when_its_folder_appears(file: Path, tmp_path: Path) -> None:
    """The folder of drop-ins does not exist yet when the watch begins."""
    async with PolicyWatch("judge", HOST) as watch:
        changes = aiter(watch)
        folder = tmp_path / "config" / "policy.d"
        folder.mkdir()
        fresh = tmp_path / "fresh"
        fresh.write_text('[profile.judge]\nextends = "judge"\nmemory_max = "1G"\n')
        fresh.rename(folder / "judge.toml")
        change = await next_of(changes)
        assert change.policy.limits.memory_max == 1 << 30
        assert change.policy.chain[0] == f"{folder}/judge.toml#judge"


async def test_a_refusal_is_reported_and_the_next_change_is_brought_from_where_the_job_stands(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        job.refuses = True
        put(file, memory_max="32M")
        (brought,) = (await next_of(changes)).jobs
        assert brought.refused == "write memory.max: Device or resource busy"
        job.refuses = False
        put(file, memory_max="32M", tasks_max=7)
        await next_of(changes)
        assert job.told == [{"memory_max": "32M", "tasks_max": "7"}]


async def test_what_was_deferred_is_compared_with_what_the_job_still_has(file: Path) -> None:
    put(file, limit_nofile=64)
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        put(file, limit_nofile=128)
        assert [item.key for item in (await next_of(changes)).jobs[0].decided.deferred] == ["limit_nofile"]
        put(file, limit_nofile=64)
        assert not (await next_of(changes)).jobs[0].decided
        assert job.told == []


async def test_cancelled_in_the_middle_it_goes_on_where_it_ended(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        jobs = [ToldJob(1), ToldJob(2)]
        jobs[1].gate = asyncio.Event()
        for job in jobs:
            watch.attach(job)
        put(file, memory_max="32M")
        waiting = asyncio.ensure_future(anext(aiter(watch)))
        while not jobs[0].told:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        jobs[1].gate.set()
        change = await next_of(aiter(watch))
        assert [brought.job_id for brought in change.jobs] == [2]
        assert [job.told for job in jobs] == [[{"memory_max": "32M"}]] * 2


async def test_jobs_that_have_ended_are_left_alone(file: Path) -> None:
    async with PolicyWatch(str(file), HOST) as watch:
        job, changes = ToldJob(), aiter(watch)
        watch.attach(job)
        job.ended = True
        put(file, memory_max="32M")
        assert (await next_of(changes)).jobs == ()
        assert job.told == []


async def test_closing_ends_the_iteration(file: Path) -> None:
    watch = PolicyWatch(str(file), HOST)
    async with watch:
        waiting = asyncio.ensure_future(anext(aiter(watch), None))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(waiting, PATIENCE) is None
    watch.close()


async def test_a_wrong_reference_is_refused_at_the_start_and_nothing_stays_open(file: Path) -> None:
    with pytest.raises(ConfigError, match="no profile 'nobody'"):
        async with PolicyWatch("nobody", HOST):
            pass
