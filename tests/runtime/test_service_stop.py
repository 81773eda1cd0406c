# SPDX-License-Identifier: Apache-2.0
"""A stopped service is gone, all of it, however it was started, whatever it did, and in whatever state it was hit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from programs import answering, probe, python, sh
from services import heard, living, pid_of, steps
from waiting import SLOW, Line, is_alive

from supervisor import ClosedError, ConfigError, JobSpec, Service, ServiceFailed, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")

LONG = 20.0 * SLOW

#: A service whose grandchild has double-forked into a session of its own, ignores every polite signal and holds a descriptor.
DAEMONIZING = """
import os, signal, sys
fd = int(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.write(fd, b"%d\\n" % os.getpid())
        while True: signal.pause()
    os._exit(0)
os.wait()
while True: signal.pause()
"""


async def test_a_grandchild_that_double_forked_and_changed_its_session_is_gone_after_the_stop() -> None:
    """The service ends on SIGTERM, its daemon ignores it; when stop() returns nobody holds the pipe. Five times, and once by a crash."""
    with Line() as line:
        spec = ServiceSpec(
            name="web", exec_start=JobSpec(argv=python(DAEMONIZING, line.end), pass_fds=(line.end,)), restart="on-failure", restart_sec=0
        )
        async with Supervisor() as sup:
            service = Service(sup, spec)
            for _ in range(5):
                await service.start()
                daemon = int(await heard(line))
                assert is_alive(daemon)
                await service.stop()
                assert not is_alive(daemon)
            await service.start()
            daemon = int(await heard(line))
            os.kill(pid_of(service), signal.SIGKILL)
            replacement = int(await heard(line))
            assert not is_alive(daemon)
            await service.stop()
            assert not is_alive(replacement)
        line.wait_closed(timeout=1)


@pytest.mark.parametrize("mode", ["control-group", "mixed"])
async def test_who_gets_the_stop_signal(mode: str) -> None:
    """control-group: every process of the tree; mixed: the main process alone."""
    with Line() as line:
        child = probe("notify", f"hear:{line.end}", f"tell:{line.end}:ready", "wait")
        # the shell, as the main process, waits for its child and ends on the signal only after it
        script = 'trap "sleep 0.3; exit 0" TERM; "$@" & while :; do wait; done'
        spec = ServiceSpec(name="web", exec_start=JobSpec(argv=sh(script, *child), pass_fds=(line.end,)), kill_mode=mode)
        async with Supervisor() as sup:
            service = Service(sup, spec)
            await service.start()
            assert await heard(line) == "ready"
            await service.stop()
            assert service.result == "success"
        line.release()
        assert line.read() == ("TERM" if mode == "control-group" else "")


async def test_a_service_that_ignores_the_signal_is_killed_after_its_time() -> None:
    """timeout_stop_sec=0.3; the word for it is timeout, as systemd has it."""
    with Line() as line:
        spec = steps("deaf", f"tell:{line.end}:ready", "wait", pass_fds=[line.end], timeout_stop_sec=0.3)
        async with Supervisor() as sup:
            service = Service(sup, spec)
            await service.start()
            await heard(line)
            began = time.monotonic()
            await service.stop()
            assert 0.3 <= time.monotonic() - began < 5 * SLOW
            assert (service.state, service.result) == ("failed", "timeout")


async def test_an_impatient_stop_does_not_wait_for_the_time() -> None:
    """at_once kills, also when a polite stop is under way; that it needed force is then no failure."""
    with Line() as line:
        spec = steps("deaf", f"tell:{line.end}:ready", "wait", pass_fds=[line.end], timeout_stop_sec=600)
        async with Supervisor() as sup:
            service = Service(sup, spec)
            await service.start()
            await heard(line)
            polite = asyncio.create_task(service.stop())
            await service.wait("deactivating")
            await service.stop(at_once=True)
            await polite
            assert (service.state, service.result) == ("inactive", "success")


async def test_cancelling_the_wait_for_a_stop_does_not_take_it_back() -> None:
    async with Supervisor() as sup:
        service = Service(sup, steps("wait"))
        await service.start()
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert await service.wait() == "inactive"


async def test_cancelling_a_start_leaves_a_service_that_can_be_stopped() -> None:
    """It goes on starting; nothing leaks when it is stopped, or when the scope ends."""
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", type="notify"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await service.start()
        assert service.state == "activating"
        await service.stop()
        assert (service.state, service.result, living(sup)) == ("inactive", "success", [])


async def test_leaving_the_supervisors_scope_stops_its_services() -> None:
    """Whatever restart says, and while one waits for its delay; nothing is started any more."""
    async with Supervisor() as sup:
        running = Service(sup, steps("wait", restart="always"))
        await running.start()
        waiting = Service(sup, steps("exit:1", restart="always", restart_sec=60))
        await waiting.start()
        await waiting.wait("activating")
    assert (running.state, waiting.state) == ("inactive", "inactive")
    with pytest.raises(ClosedError):
        await running.start()


async def test_leaving_the_scope_on_an_exception_kills_at_once() -> None:
    """A deaf service with ten minutes of patience does not hold the error up."""
    with Line() as line:
        service = None
        with pytest.raises(ZeroDivisionError):
            async with Supervisor() as sup:
                service = Service(
                    sup, steps("deaf", f"tell:{line.end}:ready", "wait", pass_fds=[line.end], timeout_stop_sec=600, restart="always")
                )
                await service.start()
                await heard(line)
                raise ZeroDivisionError
        assert service is not None and service.state == "inactive"
        line.wait_closed(timeout=1)


async def test_cancelling_the_end_of_the_scope_kills_the_services_and_goes_on() -> None:
    with Line() as line:
        leaving = asyncio.Event()

        async def scope() -> None:
            async with Supervisor() as sup:
                service = Service(
                    sup, steps("deaf", f"tell:{line.end}:ready", "wait", pass_fds=[line.end], timeout_stop_sec=600, restart="always")
                )
                await service.start()
                await heard(line)
                leaving.set()

        task = asyncio.create_task(scope())
        await leaving.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        line.wait_closed(timeout=1)


async def test_the_task_being_cancelled_from_outside_leaves_no_process() -> None:
    """asyncio.run cancels every task at its end: a scope that was never left properly still ends its jobs."""
    with Line() as line:
        async with Supervisor() as sup:
            service = Service(sup, steps(f"tell:{line.end}:ready", "wait", pass_fds=[line.end], restart="always"))
            await service.start()
            await heard(line)
            for task in asyncio.all_tasks():
                if task.get_name().startswith("web@"):
                    task.cancel()
            await service.wait()
            assert not living(sup)
        line.wait_closed(timeout=1)


STATES = ["start-pre", "activating", "active", "reloading", "deactivating", "stop-post"]


@pytest.mark.parametrize("state", STATES)
async def test_sigkill_to_the_process_of_the_moment_in_every_state(state: str, tmp_path: Path) -> None:
    """The service comes back, or goes where it was going; one copy at a time, nothing left, and it still obeys."""
    held = sh("exec sleep 60")
    given: Any = {
        "start-pre": {"exec_start_pre": [held]},
        "activating": {"type": "notify"},
        "reloading": {"exec_reload": held},
        "deactivating": {"exec_stop": held},
        "stop-post": {"exec_stop_post": [held]},
    }.get(state, {})
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", restart="always", start_limit_burst=0, name="web", **given))
        starting = asyncio.create_task(service.start())
        other: asyncio.Task[None] | None = None
        if state == "activating":
            await service.until(lambda: service.replicas[0].job is not None)
        elif state != "start-pre":
            await starting
        if state == "reloading":
            other = asyncio.create_task(service.reload())
            await service.wait("reloading")
        elif state in ("deactivating", "stop-post"):
            other = asyncio.create_task(service.stop())
        main = service.replicas[0].job
        waited = 2 if state in ("reloading", "deactivating") else 1
        while (
            len(living(sup)) < waited
            or any(job.pid == 0 for job in living(sup))
            or (state == "stop-post" and main is not None and not main.ended)
        ):
            await asyncio.sleep(0.005)
        before = {job.pid for job in living(sup)}
        for job in living(sup):
            os.kill(job.pid, signal.SIGKILL)
        if state == "start-pre":  # a failed preparation, and the next one
            await service.until(lambda: service.restarts == 1)
        elif state in ("activating", "active", "reloading"):
            await service.until(lambda: service.restarts == 1 and service.replicas[0].job is not None)
        elif other is not None:
            await other
            assert service.state in ("inactive", "failed")
        if other is not None and state == "reloading":
            with pytest.raises(ServiceFailed):
                await other
        assert len(living(sup)) <= 1
        assert not [pid for pid in before if is_alive(pid)]
        await service.stop(at_once=True)
        assert service.state in ("inactive", "failed")
        assert not living(sup)
        if not starting.done():
            starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            starting.exception()


async def test_the_commands_around_a_stop_run_in_their_order(tmp_path: Path) -> None:
    """exec_stop while it runs, with MAINPID; exec_stop_post when it is gone, after a crash too."""
    log = tmp_path / "log"
    note = 'kill -0 "$MAINPID" && echo "$2 alive" >> "$1" || echo "$2 gone" >> "$1"'
    spec = steps("wait", exec_stop=sh(note, log, "stop"), exec_stop_post=[sh(note, log, "post")])
    async with Supervisor() as sup:
        service = Service(sup, spec)
        await service.start()
        await service.stop()
        assert log.read_text().splitlines() == ["stop alive", "post gone"]
        await service.start()
        os.kill(pid_of(service), signal.SIGKILL)
        await service.wait()
        assert log.read_text().splitlines()[2:] == ["post gone"]


async def test_a_stop_command_that_hangs_ends_with_the_time() -> None:
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", exec_stop=["sleep", "600"], timeout_stop_sec=0.2))
        await service.start()
        began = time.monotonic()
        await service.stop()
        assert time.monotonic() - began < 10 * SLOW
        assert not living(sup)


async def test_starting_during_a_stop_waits_for_it_and_a_second_stop_wins() -> None:
    """stop, start: another process. stop, start, stop: none."""
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", restart="always"))
        await service.start()
        pid = pid_of(service)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        await service.start()
        await stopping
        assert service.state == "active" and pid_of(service) != pid and not is_alive(pid)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(0)
        await service.stop()
        await asyncio.wait({stopping, starting})
        starting.exception()
        assert (service.state, living(sup)) == ("inactive", [])


async def test_reloading_is_a_state_and_its_failure_is_told() -> None:
    """exec_reload with MAINPID, or a signal; the service runs on either way."""
    with Line() as line:
        code = answering(1, "os.write(int(sys.argv[1]), b'HUP\\n')")
        job = JobSpec(argv=python(code, line.end), pass_fds=(line.end,))
        async with Supervisor() as sup:
            for given in ({"reload_signal": "HUP"}, {"exec_reload": sh('kill -HUP "$MAINPID"')}):
                async with Service(sup, ServiceSpec(name="web", exec_start=job, **given)) as service:
                    assert await heard(line) == "ready"
                    await service.reload()
                    assert await heard(line) == "HUP"
                    assert service.state == "active"
            async with Service(sup, ServiceSpec(name="web", exec_start=job, exec_reload=["false"])) as service:
                with pytest.raises(ServiceFailed, match="did not reload"):
                    await service.reload()
                assert service.state == "active"
            async with Service(sup, ServiceSpec(name="web", exec_start=job)) as service:
                with pytest.raises(ConfigError, match="exec_reload"):
                    await service.reload()


async def test_a_service_may_tell_that_it_reloads_and_stops() -> None:
    """RELOADING=1, READY=1, STOPPING=1 in a service of type notify."""
    with Line() as go:
        fd = go._read
        spec = steps(
            "send:READY=1",
            f"read:{fd}",
            "send:RELOADING=1",
            f"read:{fd}",
            "send:READY=1",
            f"read:{fd}",
            "send:STOPPING=1",
            f"read:{fd}",
            type="notify",
            pass_fds=[fd],
        )
        async with Supervisor() as sup, Service(sup, spec) as service:
            for state in ("reloading", "active", "deactivating"):
                os.write(go.end, b".")
                await service.wait(state)
            os.write(go.end, b".")
            assert await service.wait() == "inactive"


async def test_a_service_in_a_closed_supervisor_fails_plainly() -> None:
    sup = Supervisor()
    async with sup:
        pass
    service = Service(sup, steps("wait"))
    with pytest.raises(ClosedError):
        await service.start()
    assert service.state == "inactive"


async def test_nobody_waits_for_a_service_that_a_closed_supervisor_never_starts() -> None:
    """Neither who waits already, whether the service ever ran or not, nor who comes later; what the end brings about is still told."""
    async with Supervisor() as sup:
        idle, ran = Service(sup, steps("wait")), Service(sup, steps("wait"))
        await ran.start()
        never, again = (asyncio.create_task(service.wait("activating")) for service in (idle, ran))
        ended = asyncio.create_task(ran.wait("inactive", "failed"))
        await asyncio.sleep(0)
    async with asyncio.timeout(LONG):
        for waiting in (never, again, idle.wait("active")):
            with pytest.raises(ClosedError, match="its supervisor is closed"):
                await waiting
        assert await ended == await ran.wait()


async def test_a_paused_service_stops_when_it_is_asked_to() -> None:
    async with Supervisor() as sup:
        service = Service(sup, steps("wait"))
        await service.start()
        await service.pause()
        job = service.replicas[0].job
        assert job is not None and job.state == "paused"
        await service.stop()
        assert (service.state, service.result) == ("inactive", "success")


async def test_unknown_states_cannot_be_waited_for() -> None:
    async with Supervisor() as sup:
        with pytest.raises(ConfigError, match="activ"):
            await Service(sup, steps("wait")).wait("running")


async def test_many_changes_of_mind_leave_one_copy_or_none() -> None:
    """Starts, stops and kills without waiting for each other: at the end it is as the last word was."""
    async with Supervisor() as sup:
        service = Service(sup, ServiceSpec(name="web", exec_start=["sleep", "60"], restart="always", restart_sec=0, start_limit_burst=0))
        tasks = []
        for turn in range(60):
            match turn % 4:
                case 0 | 2:
                    tasks.append(asyncio.create_task(service.start()))
                case 1:
                    if service.replicas[0].job is not None and service.replicas[0].job.pid:
                        await service.replicas[0].job.send_signal(signal.SIGKILL)
                case 3:
                    tasks.append(asyncio.create_task(service.stop()))
            await asyncio.sleep(0.001 * (turn % 5))
            assert len(living(sup)) <= 1
        await service.start()
        await service.until(lambda: service.state == "active")
        assert len(living(sup)) == 1
        await service.stop()
        await asyncio.wait(tasks)
        for task in tasks:
            task.exception()
        assert (service.state, living(sup)) == ("inactive", [])
