# SPDX-License-Identifier: Apache-2.0
"""Services that need each other: started after what they need is ready, stopped before it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from programs import sh
from services import living, pid_of, steps

from supervisor import ConfigError, Job, JobSpec, ServiceFailed, ServiceGroup, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")


def noting(log: Path, name: str, **given: Any) -> ServiceSpec:
    """A service that notes when it is ready, a while after its start, and when it is told to stop."""
    script = 'trap \'echo "-$2" >>"$1"; exit 0\' TERM; sleep 0.05; echo "+$2" >>"$1"; echo >"/proc/self/fd/$READY_FD"; while :; do sleep 60 & wait $!; done'
    from supervisor import FdCheck

    return ServiceSpec(name=name, exec_start=sh(script, log, name), ready=FdCheck(), kill_mode="mixed", **given)


async def test_dependants_start_after_readiness_and_stop_in_reverse(tmp_path: Path) -> None:
    """db; then api and cache; then web. The stop mirrors it."""
    log = tmp_path / "log"
    specs = [
        noting(log, "web", requires=["api"], after=["api", "cache"]),
        noting(log, "api", requires=["db"], after=["db"]),
        noting(log, "cache", after=["db"]),
        noting(log, "db"),
    ]
    async with Supervisor() as sup, ServiceGroup(sup, specs) as group:
        assert {name: group[name].state for name in group.services} == dict.fromkeys(("web", "api", "cache", "db"), "active")
        said = log.read_text().split()
        assert said[0] == "+db" and said[-1] == "+web" and set(said[1:3]) == {"+api", "+cache"}
    said = log.read_text().split()[4:]
    assert said[0] == "-web" and said[-1] == "-db" and set(said[1:3]) == {"-api", "-cache"}


async def test_starting_one_draws_in_what_it_requires_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = [noting(log, "web", requires=["db"], after=["db", "log"]), noting(log, "db"), noting(log, "log")]
    async with Supervisor() as sup:
        group = ServiceGroup(sup, specs)
        await group.start("web")
        assert log.read_text().split() == ["+db", "+web"]
        assert group["log"].state == "inactive"
        await group.stop("db")  # whoever requires it goes first
        assert log.read_text().split()[2:] == ["-web", "-db"]
        await group.stop()


async def test_what_requires_a_failed_service_is_not_started(tmp_path: Path) -> None:
    """The one that failed by itself is told; those beside it run."""
    log = tmp_path / "log"
    specs = [
        noting(log, "web", requires=["api"], after=["api"]),
        noting(log, "api", requires=["db"], after=["db"]),
        ServiceSpec(name="db", exec_start=["false"], type="oneshot"),
        noting(log, "other", after=["db"]),
    ]
    async with Supervisor() as sup:
        group = ServiceGroup(sup, specs)
        with pytest.raises(ServiceFailed) as caught:
            await group.start()
        assert (caught.value.service, caught.value.result) == ("db", "exit-code")
        assert {name: group[name].state for name in group.services} == {
            "web": "inactive",
            "api": "inactive",
            "db": "failed",
            "other": "active",
        }
        await group.stop()


async def test_a_group_that_cannot_be_entered_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = [noting(log, "good"), ServiceSpec(name="bad", exec_start=["/no/such/program"])]
    async with Supervisor() as sup:
        with pytest.raises(ServiceFailed, match="bad"):
            async with ServiceGroup(sup, specs):
                pytest.fail("entered")
        assert not living(sup)


async def test_cancelling_a_start_starts_no_further_service() -> None:
    """db never becomes ready; web never starts."""
    specs = [steps("wait", name="db", type="notify"), steps("wait", name="web", after=["db"])]
    async with Supervisor() as sup:
        group = ServiceGroup(sup, specs)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await group.start()
        assert (group["db"].state, group["web"].state) == ("activating", "inactive")
        await group.stop()
        assert not living(sup)


async def test_a_restart_takes_along_what_requires_it_and_ran() -> None:
    specs = [
        steps("wait", name="db"),
        steps("wait", name="web", requires=["db"], after=["db"]),
        steps("wait", name="idle", requires=["db"]),
    ]
    async with Supervisor() as sup:
        group = ServiceGroup(sup, specs)
        await group.start("web")
        before = {name: pid_of(group[name]) for name in ("db", "web")}
        await group.restart("db")
        after = {name: pid_of(group[name]) for name in ("db", "web")}
        assert not set(before.values()) & set(after.values())
        assert group["idle"].state == "inactive"
        await group.stop()


async def test_a_crash_of_what_is_required_is_its_own_affair() -> None:
    """requires, unlike systemd's BindsTo, does not take the others down."""
    specs = [steps("wait", name="db", restart="always"), steps("wait", name="web", requires=["db"], after=["db"])]
    async with Supervisor() as sup, ServiceGroup(sup, specs) as group:
        web = pid_of(group["web"])
        os.kill(pid_of(group["db"]), signal.SIGKILL)
        await group["db"].until(lambda: group["db"].restarts == 1 and group["db"].state == "active")
        assert pid_of(group["web"]) == web


async def test_names_are_checked_before_anything_is_started() -> None:
    async with Supervisor() as sup:
        with pytest.raises(ConfigError, match="did you mean 'db'"):
            ServiceGroup(sup, [steps("wait", name="web", requires=["dbb"]), steps("wait", name="db")])
        with pytest.raises(ConfigError, match="a circle: a -> b -> a"):
            ServiceGroup(sup, [steps("wait", name="a", after=["b"]), steps("wait", name="b", after=["a"])])
        with pytest.raises(ConfigError, match="two services"):
            ServiceGroup(sup, [steps("wait", name="a"), steps("wait", name="a")])
        group = ServiceGroup(sup, [steps("wait", name="web")])
        with pytest.raises(ConfigError, match="did you mean 'web'"):
            await group.start("wep")
        assert not living(sup)


async def test_single_services_of_a_group_have_their_own_launch_and_callback() -> None:
    """By name, and a name that is wrong is refused."""
    launched: list[JobSpec] = []
    told: asyncio.Queue[Job] = asyncio.Queue()
    async with Supervisor() as sup:

        async def launch(spec: JobSpec) -> Job:
            launched.append(spec)
            return await sup.start(spec)

        specs = [steps("wait", name="db", restart="always"), steps("wait", name="web", after=["db"])]
        async with ServiceGroup(sup, specs, launch={"db": launch}, on_restart={"db": told.put_nowait}) as group:
            os.kill(pid_of(group["db"]), signal.SIGKILL)
            restarted = await told.get()
            assert len(launched) == 2 and restarted.pid == pid_of(group["db"])
        with pytest.raises(ConfigError, match="did you mean 'db'"):
            ServiceGroup(sup, specs, launch={"dbb": launch})
