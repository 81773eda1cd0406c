# SPDX-License-Identifier: Apache-2.0
"""Signs of life: the watchdog that waits for them, and health checks that ask."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from programs import sh
from services import living, pid_of, replaced, steps
from waiting import SLOW

from supervisor import ExecCheck, Health, Service, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")
ALIVE_S = 0.4 * SLOW


async def test_a_service_that_falls_silent_gets_sigabrt_and_is_replaced() -> None:
    """Result watchdog; the exit says which signal."""
    spec = steps("send:READY=1", "wait", type="notify", watchdog_sec=ALIVE_S, restart="on-watchdog", start_limit_burst=0)
    async with Supervisor() as sup, Service(sup, spec) as service:
        replica = service.replicas[0]
        await replaced(service, pid_of(service))
        assert replica.result == "watchdog"
        assert replica.outcome is not None and replica.outcome.exit.signal == signal.SIGABRT


async def test_a_service_that_says_it_is_alive_is_left_alone() -> None:
    """Five times the interval, and the same process."""
    spec = steps("send:READY=1", f"ping:{ALIVE_S / 8}", type="notify", watchdog_sec=ALIVE_S, restart="always")
    async with Supervisor() as sup, Service(sup, spec) as service:
        pid = pid_of(service)
        await asyncio.sleep(5 * ALIVE_S)
        assert (pid_of(service), service.restarts, service.state) == (pid, 0, "active")


async def test_a_paused_service_is_not_blamed_for_its_silence() -> None:
    """Paused for three intervals, alive after the resume."""
    spec = steps("send:READY=1", f"ping:{ALIVE_S / 8}", type="notify", watchdog_sec=ALIVE_S, restart="no")
    async with Supervisor() as sup, Service(sup, spec) as service:
        await service.pause()
        await asyncio.sleep(3 * ALIVE_S)
        assert service.state == "active"
        await service.resume()
        await asyncio.sleep(2 * ALIVE_S)
        assert service.state == "active"


async def test_time_in_a_pause_does_not_count_even_when_the_pause_is_over() -> None:
    """Silent for nine tenths of the interval, most of it paused: it still has the rest when it runs on, and no more."""
    spec = steps("send:READY=1", "wait", type="notify", watchdog_sec=ALIVE_S, restart="no")
    async with Supervisor() as sup, Service(sup, spec) as service:
        await service.pause()
        await asyncio.sleep(0.9 * ALIVE_S)
        await service.resume()
        await asyncio.sleep(0.4 * ALIVE_S)
        assert service.state == "active"
        assert (await service.wait(), service.result) == ("failed", "watchdog")


async def test_a_service_may_pull_the_trigger_itself() -> None:
    """WATCHDOG=trigger, with an interval of a minute."""
    spec = steps("send:READY=1", "sleep:0.3", "send:WATCHDOG=trigger", "wait", type="notify", watchdog_sec=60)
    async with Supervisor() as sup:
        service = Service(sup, spec)
        await service.start()
        assert (await service.wait(), service.result) == ("failed", "watchdog")


async def test_a_service_that_ignores_sigabrt_is_killed_after_its_time() -> None:
    spec = ServiceSpec(
        name="deaf",
        exec_start=sh("trap '' ABRT; while :; do sleep 0.05; done"),
        watchdog_sec=ALIVE_S,
        timeout_stop_sec=0.2,
        kill_mode="mixed",
    )
    async with Supervisor() as sup:
        service = Service(sup, spec)
        await service.start()
        assert (await service.wait(), service.result) == ("failed", "watchdog")
        assert service.replicas[0].outcome is not None and service.replicas[0].outcome.exit.signal == signal.SIGKILL


async def test_an_unhealthy_service_is_restarted_after_so_many_failures(tmp_path: Path) -> None:
    """The check looks for a file: healthy while it is there, restarted when it is gone, healthy again."""
    mark = tmp_path / "well"
    mark.touch()
    health = Health(check=ExecCheck(argv=["test", "-e", str(mark)]), interval_sec=0.05, retries=2, timeout_sec=5)
    spec = steps("wait", restart="on-failure", health=health, start_limit_burst=0)
    async with Supervisor() as sup, Service(sup, spec) as service:
        replica = service.replicas[0]
        pid = pid_of(service)
        await service.until(lambda: replica.healthy is True)
        assert pid_of(service) == pid
        mark.unlink()
        await replaced(service, pid)
        assert replica.result == "health"
        mark.touch()
        await service.until(lambda: replica.healthy is True)


async def test_an_unhealthy_service_may_also_only_be_told_of(tmp_path: Path) -> None:
    """on_failure=event."""
    health = Health(check=ExecCheck(argv=["false"]), interval_sec=0.03, retries=2, on_failure="event")
    async with Supervisor() as sup, Service(sup, steps("wait", restart="always", health=health)) as service:
        replica = service.replicas[0]
        pid = pid_of(service)
        await service.until(lambda: replica.healthy is False)
        assert (pid_of(service), service.state) == (pid, "active")


async def test_a_check_that_hangs_is_a_failure_and_is_ended() -> None:
    """timeout_sec; nothing of it is left when the service is stopped."""
    health = Health(check=ExecCheck(argv=["sleep", "60"]), interval_sec=0.03, timeout_sec=0.1, retries=1)
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", health=health))
        await service.start()
        assert (await service.wait(), service.result) == ("failed", "health")
        assert not living(sup)
