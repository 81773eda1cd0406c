# SPDX-License-Identifier: Apache-2.0
"""A service is kept running: after crashes, within its start limit, with its delays, and no longer than asked."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from programs import python, sh
from services import heard, living, pid_of, replaced, steps
from waiting import SLOW, Line

from supervisor import Job, JobSpec, Limits, Recovery, Service, ServiceFailed, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")


async def test_a_killed_service_is_replaced_again_and_again_by_one_process_at_a_time() -> None:
    """Ten times SIGKILL; each replacement is another process, and the one before is gone."""
    spec = steps("wait", restart="always", start_limit_burst=0)
    async with Supervisor() as sup, Service(sup, spec) as service:
        seen = [pid_of(service)]
        for _ in range(10):
            os.kill(seen[-1], signal.SIGKILL)
            seen.append(await replaced(service, seen[-1]))
            assert len(living(sup)) == 1
        assert len(set(seen)) == 11
        assert service.restarts == 10
        assert service.replicas[0].outcome is not None and service.replicas[0].outcome.exit.signal == 9
    assert service.state == "inactive"


async def test_a_crash_loop_ends_at_the_start_limit() -> None:
    """Five starts, and no sixth; the reason and the last outcome are told."""
    with Line() as line:
        async with Supervisor() as sup:
            spec = steps(f"tell:{line.end}:run", "exit:3", pass_fds=[line.end], restart="always")
            service = Service(sup, spec)
            await service.start()  # a simple service was up for a moment
            assert await service.wait() == "failed"
            assert service.result == "start-limit-hit"
            assert service.replicas[0].outcome is not None and service.replicas[0].outcome.exit.code == 3
            line.release()
            assert [line.read() for _ in range(6)] == ["run"] * 5 + [""]


async def test_starting_by_hand_clears_the_start_limit() -> None:
    """Another five."""
    with Line() as line:
        async with Supervisor() as sup:
            service = Service(sup, steps(f"tell:{line.end}:run", "exit:3", pass_fds=[line.end], restart="on-failure"))
            for _ in range(2):
                await service.start()
                assert await service.wait() == "failed"
                assert service.restarts == 4
        line.release()
        said = [line.read() for _ in range(11)]
        assert said == ["run"] * 10 + [""]


async def test_a_clean_end_is_no_failure() -> None:
    """on-failure leaves exit 0 alone, and a status named as success too."""
    async with Supervisor() as sup:
        for code, given in ((0, {}), (75, {"success_exit_status": [75]})):
            service = Service(sup, steps(f"exit:{code}", restart="on-failure", **given))
            await service.start()
            assert (await service.wait(), service.result, service.restarts) == ("inactive", "success", 0)


async def test_an_exit_status_may_forbid_the_restart() -> None:
    """restart=always, and 78 says that its configuration is wrong."""
    async with Supervisor() as sup:
        service = Service(sup, steps("exit:78", restart="always", restart_prevent_exit_status=[78]))
        await service.start()
        assert (await service.wait(), service.result, service.restarts) == ("failed", "exit-code", 0)
        assert "restart_prevent_exit_status" in service.reason


async def test_delays_grow_as_specified() -> None:
    """0.05, 0.1, 0.2 seconds between an end and the next start, taken from the events of the jobs."""
    spec = steps("exit:1", restart="always", start_limit_burst=4, restart_sec=0.05, restart_steps=2, restart_max_delay_sec=0.2)
    async with Supervisor() as sup:
        reader = sup.events(output=False)
        service = Service(sup, spec)
        await service.start()
        assert await service.wait() == "failed"
        reader.finish()
        times = [(event.kind, event.time_ns) async for event in reader if event.kind in ("started", "terminated")]
    gaps = [(after - before) / 1e9 for (kind, before), (_, after) in zip(times[1::2], times[2::2], strict=False) if kind == "terminated"]
    assert len(gaps) == 3
    for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True):
        assert least <= gap <= least + 0.5 * SLOW


async def test_a_stop_during_the_delay_is_obeyed_at_once() -> None:
    """A minute of delay, and nothing is started any more."""
    async with Supervisor() as sup:
        service = Service(sup, steps("exit:1", restart="always", restart_sec=60))
        await service.start()
        await service.wait("activating")
        began = time.monotonic()
        await service.stop()
        assert time.monotonic() - began < 5 * SLOW
        assert (service.state, service.result) == ("inactive", "success")
        assert not living(sup)


async def test_a_missing_program_is_given_up_at_once_whatever_restart_says() -> None:
    async with Supervisor() as sup:
        service = Service(sup, ServiceSpec(name="web", exec_start=["/no/such/program"], restart="always", restart_sec=0))
        with pytest.raises(ServiceFailed) as caught:
            await service.start()
        assert (caught.value.service, caught.value.result) == ("web", "resources")
        assert "/no/such/program" in str(caught.value) and "same way" in str(caught.value)
        assert caught.value.outcome is not None and caught.value.outcome.verdict == "start_failed"
        assert (service.state, service.restarts) == ("failed", 0)


async def test_a_limit_that_this_host_cannot_enforce_is_given_up_at_once() -> None:
    """UnsupportedError before anything is started."""
    async with Supervisor() as sup:
        job = JobSpec(argv=["sleep", "60"], limits=Limits(disk_max="1M"))
        service = Service(sup, ServiceSpec(name="web", exec_start=job, restart="always"))
        with pytest.raises(ServiceFailed, match="disk_max"):
            await service.start()
        assert service.state == "failed"


async def test_a_passing_failure_of_the_start_is_tried_again(tmp_path: Path) -> None:
    """The program is still being written (ETXTBSY): tried again until it is not, without any restart policy."""
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    writing = os.open(program, os.O_WRONLY)
    async with Supervisor() as sup:
        spec = ServiceSpec(
            name="web", exec_start=[str(program), "60"], restart_sec=0.05, recovery=Recovery(start_retries=1000), start_limit_burst=0
        )
        service = Service(sup, spec)
        starting = asyncio.create_task(service.start())
        try:
            await service.until(lambda: service.restarts >= 3)
            assert service.state == "activating"
        finally:
            os.close(writing)
        await starting
        assert service.state == "active"
        await service.stop()


async def test_passing_failures_are_not_tried_for_ever(tmp_path: Path) -> None:
    """One start and two more."""
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    writing = os.open(program, os.O_WRONLY)
    try:
        async with Supervisor() as sup:
            spec = ServiceSpec(name="web", exec_start=[str(program), "60"], restart_sec=0, recovery=Recovery(start_retries=2))
            service = Service(sup, spec)
            with pytest.raises(ServiceFailed, match="3 starts in a row have failed"):
                await service.start()
            assert service.restarts == 2
    finally:
        os.close(writing)


@pytest.mark.requires("memory")
async def test_a_service_that_runs_out_of_memory_comes_back_with_more(holder: str) -> None:
    """It needs 100 MiB and has 32: 32, 64, 128, and then it is up. No more than the ceiling, and not under restart=no by chance."""
    if holder == "helper":
        pytest.skip("memory_max needs a cgroup")
    hungry = python(
        "held = bytearray(100 << 20)\nheld[::4096] = b'x' * len(held[::4096])\nprint('fed', flush=True)\nimport signal\nsignal.pause()"
    )
    recovery = Recovery(memory_factor=2, memory_ceiling="1G")
    async with Supervisor() as sup:
        job = JobSpec(argv=hungry, limits=Limits(memory_max="32M"), stdout=-3)
        service = Service(sup, ServiceSpec(name="web", exec_start=job, restart_sec=0, recovery=recovery))
        await service.start()
        await service.until(lambda: service.restarts == 2)
        replica = service.replicas[0]
        await service.until(lambda: replica.job is not None and replica.job.state == "running")
        assert replica.job is not None and replica.job.limits.memory_max == 128 << 20
        assert replica.outcome is not None and replica.outcome.verdict == "memory_limit"
        await service.stop()
        await service.start()  # by hand: with its own limits again
        assert replica.job is not None and replica.job.limits.memory_max == 32 << 20


async def test_a_broken_limit_is_an_end_like_another() -> None:
    """wall_limit is a timeout: on-failure restarts; restart_on_limit=False does not."""
    job = JobSpec(argv=["sleep", "60"], limits=Limits(wall_time_max="100ms"))
    async with Supervisor() as sup:
        again = Service(sup, ServiceSpec(name="again", exec_start=job, restart="on-failure", restart_sec=0))
        once = Service(sup, ServiceSpec(name="once", exec_start=job, restart="on-failure", restart_on_limit=False))
        await again.start()
        await once.start()
        await again.until(lambda: again.restarts >= 2)
        await again.stop()
        assert (await once.wait(), once.result, once.restarts) == ("failed", "timeout", 0)


async def test_whoever_wants_to_know_of_restarts_is_told_and_may_fail() -> None:
    """on_restart gets each new job, not the first; what it raises harms nobody, and one that hangs ends with its run."""
    told: list[int] = []

    async def on_restart(job: Job) -> None:
        told.append(job.pid)
        if len(told) == 1:
            raise ValueError("the callback is broken")
        await asyncio.sleep(3600)

    async with Supervisor() as sup, Service(sup, steps("wait", restart="always"), on_restart=on_restart) as service:
        pids = [pid_of(service)]
        for _ in range(3):
            os.kill(pids[-1], signal.SIGKILL)
            pids.append(await replaced(service, pids[-1]))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == pids[1:]


async def test_another_way_to_launch_is_used_for_every_run() -> None:
    """What a channel needs: it sees each specification and makes each job."""
    seen: list[JobSpec] = []

    async with Supervisor() as sup:

        async def launch(spec: JobSpec) -> Job:
            seen.append(spec)
            return await sup.start(spec)

        async with Service(sup, steps("wait", restart="always"), launch=launch) as service:
            os.kill(pid_of(service), signal.SIGKILL)
            await service.until(lambda: len(seen) == 2 and service.state == "active")


async def test_a_launch_that_is_broken_is_a_failed_service_and_harms_nobody() -> None:
    """Whatever it raises: told by start(), logged, the supervisor and the other services go on."""

    async def launch(spec: JobSpec) -> Job:
        raise ValueError("the launch is broken")

    async with Supervisor() as sup:
        service = Service(sup, steps("wait", restart="always"), launch=launch)
        with pytest.raises(ServiceFailed, match="the launch is broken"):
            await service.start()
        assert service.state == "failed"
        assert (await sup.run(["true"])).ok


async def test_a_run_that_stayed_up_begins_its_delays_anew() -> None:
    """The third delay would be a minute; a run of 0.2 s counts as healthy here, so it never is."""
    with Line() as line:
        spec = steps(
            f"tell:{line.end}:run",
            "sleep:0.3",
            "exit:1",
            pass_fds=[line.end],
            restart="always",
            start_limit_burst=0,
            restart_sec=0.01,
            restart_steps=1,
            restart_max_delay_sec=60,
            restart_reset_sec=0.2,
        )
        async with Supervisor() as sup, Service(sup, spec):
            assert [await heard(line) for _ in range(4)] == ["run"] * 4


async def test_a_oneshot_is_done_when_it_has_exited() -> None:
    """start() returns then; remain_after_exit keeps it active until it is stopped; a failure is one."""
    async with Supervisor() as sup:
        once = Service(sup, ServiceSpec(name="once", exec_start=sh("exit 0"), type="oneshot"))
        await once.start()
        assert (once.state, once.result) == ("inactive", "success")
        kept = Service(sup, ServiceSpec(name="kept", exec_start=sh("exit 0"), type="oneshot", remain_after_exit=True))
        await kept.start()
        assert (kept.state, living(sup)) == ("active", [])
        await kept.stop()
        assert kept.state == "inactive"
        bad = Service(sup, ServiceSpec(name="bad", exec_start=sh("exit 4"), type="oneshot", restart="on-failure", restart_sec=0))
        with pytest.raises(ServiceFailed) as caught:
            await bad.start()
        assert (caught.value.result, bad.restarts) == ("start-limit-hit", 4)


async def test_preparations_come_first_and_their_failure_is_the_services(tmp_path: Path) -> None:
    """exec_start_pre in order; the command does not run when one fails."""
    log = tmp_path / "log"
    async with Supervisor() as sup:
        note = [sh('echo "$2" >> "$1"', log, word) for word in ("one", "two", "main")]
        good = Service(sup, ServiceSpec(name="good", exec_start=note[2], exec_start_pre=note[:2], type="oneshot"))
        await good.start()
        assert log.read_text().split() == ["one", "two", "main"]
        bad = Service(sup, ServiceSpec(name="bad", exec_start=note[2], exec_start_pre=[["false"], note[0]], type="oneshot"))
        with pytest.raises(ServiceFailed, match="exec_start_pre"):
            await bad.start()
        missing = Service(sup, ServiceSpec(name="missing", exec_start=note[2], exec_start_pre=[["/no/such/program"]]))
        with pytest.raises(ServiceFailed, match="/no/such/program"):
            await missing.start()
        assert log.read_text().split() == ["one", "two", "main"]
