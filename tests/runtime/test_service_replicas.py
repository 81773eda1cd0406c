# SPDX-License-Identifier: Apache-2.0
"""Several copies of one service: scaled, restarted one after the other, each kept by itself."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from services import heard, living, pid_of, replaced, steps
from waiting import Line, is_alive

from supervisor import ConfigError, JobSpec, Service, ServiceFailed, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")


def pids(service: Service) -> list[int]:
    return [pid_of(service, number) for number in range(len(service.replicas))]


async def test_scaling_up_and_down_does_not_touch_the_survivors() -> None:
    """2, 5, 1, 3, 0, 2: whoever stays is the same process all the time."""
    async with Supervisor() as sup, Service(sup, steps("wait", restart="always", replicas=2)) as service:
        before = pids(service)
        for count in (5, 1, 3):
            await service.scale(count)
            now = pids(service)
            assert len(now) == count and service.state == "active"
            kept = min(count, len(before))
            assert now[:kept] == before[:kept]
            assert not [pid for pid in before[kept:] if is_alive(pid)]
            before = now
        await service.scale(0)
        assert (service.state, living(sup)) == ("inactive", [])
        await service.scale(2)
        assert len(pids(service)) == 2


async def test_a_stopped_service_is_scaled_without_being_started() -> None:
    async with Supervisor() as sup:
        service = Service(sup, steps("wait"))
        await service.scale(3)
        assert (len(service.replicas), service.state, living(sup)) == (3, "inactive", [])
        await service.start()
        assert len(living(sup)) == 3
        await service.stop()


async def test_each_replica_knows_its_number_and_is_kept_by_itself() -> None:
    """One is killed, the others do not notice."""
    with Line() as line:
        code = f'echo "$RINGFENCE_REPLICA" >/proc/self/fd/{line.end}; exec sleep 60'
        job = JobSpec(argv=["/bin/sh", "-c", code], pass_fds=(line.end,))
        spec = ServiceSpec(name="web", exec_start=job, restart="always", restart_sec=0, replicas=3)
        async with Supervisor() as sup, Service(sup, spec) as service:
            assert sorted([await heard(line) for _ in range(3)]) == ["0", "1", "2"]
            before = pids(service)
            os.kill(before[1], signal.SIGKILL)
            await replaced(service, before[1], 1)
            assert await heard(line) == "1"
            now = pids(service)
            assert (now[0], now[2]) == (before[0], before[2]) and now[1] != before[1]


async def test_a_rolling_restart_replaces_every_process_and_keeps_the_others_up() -> None:
    """Of five at most two are down at any time, and each comes up before the next goes down."""
    async with Supervisor() as sup, Service(sup, steps("send:READY=1", "wait", type="notify", replicas=5)) as service:
        before = pids(service)
        least = 5
        rolling = asyncio.create_task(service.restart(rolling=True, max_unavailable=2))

        def look() -> bool:
            nonlocal least
            least = min(least, sum(replica.state == "active" for replica in service.replicas))
            return rolling.done()

        watching = asyncio.create_task(service.until(look))
        await rolling
        watching.cancel()
        assert least == 3
        assert not set(before) & set(pids(service))


async def test_a_rolling_restart_ends_at_the_first_that_does_not_come_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The rest still runs as it did."""
    mark = tmp_path_factory.mktemp("roll") / "broken"
    spec = ServiceSpec(name="web", exec_start=["sleep", "60"], exec_start_pre=[["test", "!", "-e", str(mark)]], replicas=3)
    async with Supervisor() as sup:
        service = Service(sup, spec)
        await service.start()
        before = pids(service)
        mark.touch()
        with pytest.raises(ServiceFailed, match="web@0"):
            await service.restart(rolling=True)
        assert [replica.state for replica in service.replicas] == ["failed", "active", "active"]
        assert [pid_of(service, 1), pid_of(service, 2)] == before[1:]
        assert service.state == "failed"
        await service.stop()


async def test_a_plain_restart_replaces_all() -> None:
    async with Supervisor() as sup, Service(sup, steps("wait", replicas=2)) as service:
        before = pids(service)
        await service.restart()
        assert not set(before) & set(pids(service))


@pytest.mark.parametrize("count", [-1, True, "3", 10**9])
async def test_a_number_that_is_none_changes_nothing(count: int) -> None:
    async with Supervisor() as sup, Service(sup, steps("wait")) as service:
        pid = pid_of(service)
        with pytest.raises(ConfigError, match="replicas"):
            await service.scale(count)
        assert pids(service) == [pid]
        with pytest.raises(ConfigError, match="max_unavailable"):
            await service.restart(rolling=True, max_unavailable=0)
        assert pids(service) == [pid]
