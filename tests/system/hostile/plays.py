# SPDX-License-Identifier: Apache-2.0
"""Scenarios that are more than one program: somebody outside acts too, or several jobs meet.

Each is a coroutine from the stage, a supervisor, the table's row and the level to the outcome that the row speaks of.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import facts
from waiting import SLOW, Line, eventually

import supervisor
from supervisor import Outcome, Supervisor

if TYPE_CHECKING:
    from scenario import Scenario
    from stage import Stage

SECOND_NS = 1_000_000_000
DAY_SECONDS = 86_400


# ---- somebody outside acts too ----


async def crowded_host(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """A place for jobs that is itself held to 64 MiB, as a crowded host would be."""
    outer = Path("/sys/fs/cgroup/crowded")
    outer.mkdir()
    try:
        (outer / "memory.max").write_text(str(64 << 20))
        (outer / "memory.swap.max").write_text("0")
        async with Supervisor(cgroup=str(outer)) as crowded:
            command = stage.command("memory.py", "touch")
            return await crowded.run(command, sandbox=stage.sandbox(level), limits={"memory_max": "1G"}, capture_output=True)
    finally:
        os.rmdir(outer)


def _parent(pid: int) -> int:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith("PPid")))


async def init_is_killed(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    with Line() as line:
        job = await sup.start(["/bin/sh", "-c", "setsid sleep 1000 & sleep 1000"], sandbox=stage.sandbox(level), pass_fds=[line.end])
        line.release()
        os.kill(_parent(job.pid), signal.SIGKILL)
        outcome = await job.wait()
        line.wait_closed()
        return outcome


async def overwrites_the_program(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """Even from outside, where it can be opened, the program of the helper cannot be written."""
    command = stage.command("attack_init.py")
    job = await sup.start(["/bin/sleep", "1000"], sandbox=stage.sandbox(level))
    try:
        path = f"/proc/{_parent(job.pid)}/exe"
        try:
            with open(path, "r+b", buffering=0) as file:
                file.write(b"x")
        except OSError:
            pass
        else:
            raise AssertionError("the helper's program was overwritten")
    finally:
        await job.kill()
    return await stage.job(sup, command, scenario, level)


def _cgroup_of(pid: int) -> Path:
    base = facts.cgroup_base()
    assert base is not None
    for path in base.glob(f"ringfence-{os.getpid()}-*/**/cgroup.procs"):
        if str(pid) in path.read_text().split():
            return path.parent
    raise AssertionError(f"process {pid} is in no cgroup of ours")


async def frozen(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    job = await sup.start(["/bin/sleep", "1000"], sandbox=stage.sandbox(level))
    cgroup = _cgroup_of(job.pid)
    (cgroup / "cgroup.freeze").write_text("1")
    eventually(lambda: "frozen 1" in (cgroup / "cgroup.events").read_text())
    return await job.kill()


async def leaked_descriptors(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    leaked = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(3)]
    try:
        for fd in leaked:
            os.set_inheritable(fd, True)
        return await stage.job(sup, stage.command("leaked.py"), scenario, level)
    finally:
        for fd in leaked:
            os.close(fd)


async def terminal(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """Its standard input is a terminal; nobody must find anything typed there."""
    outer, inner = os.openpty()
    try:
        os.set_blocking(inner, False)
        job = await sup.start(stage.command("terminal.py"), sandbox=stage.sandbox(level), stdin=inner, capture_output=True)
        outcome = await job.wait()
        try:
            typed = os.read(inner, 100)
        except BlockingIOError:
            typed = b""
        assert typed == b"", typed
        return outcome
    finally:
        os.close(outer)
        os.close(inner)


async def links(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """The next job is shown something below what this one left a link in the place of."""
    work, other = stage.work(), stage.work()
    try:
        shown = [f"{work}:{work}:rw"]
        left = await stage.job(sup, stage.command("links.py", work, stage.canary), scenario, level, bind=shown)
        assert left.verdict == "ok" and left.stdout is not None and left.stdout.count(b"refused ") == 3, left
        outcome = await stage.job(sup, ["/bin/true"], scenario, level, bind=[*shown, f"{other}:{work}/data:rw"])
        assert outcome.error is not None and outcome.error.stage == "target", outcome
        return outcome
    finally:
        shutil.rmtree(work)
        shutil.rmtree(other)


async def sockets(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    name = f"ringfence-hostile-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as server, socket.create_server(("127.0.0.1", 0)) as web:
        server.bind(f"\0{name}")
        server.listen()
        return await stage.job(sup, stage.command("sockets.py", name, web.getsockname()[1]), scenario, level)


async def locks(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """The channel is there, as documented; without flock(2) it has one way less."""
    import fcntl

    with open(stage.canary / "file") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        command = stage.command("locks.py", stage.canary / "file")
        seen = await stage.job(sup, command, scenario, level)
        assert seen.stdout == b"refused flock: EAGAIN\n", seen
        outcome = await stage.job(sup, command, scenario, level, syscalls_deny=["flock"])
        assert outcome.denied_syscalls == {"flock": 1}, outcome
        return outcome


async def secrets(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    os.environ["RINGFENCE_HOSTILE"] = "HUSH"
    try:
        return await stage.job(sup, stage.command("secrets.py"), scenario, level)
    finally:
        del os.environ["RINGFENCE_HOSTILE"]


async def core_handler(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """A handler that notes whose core it got: it runs for a job without a sandbox, and not for this one."""
    pattern, notes, handler = Path("/proc/sys/kernel/core_pattern"), stage.folder / "cores", stage.folder / "handler"
    before = pattern.read_text()
    handler.write_text(f"#!/bin/sh\ncat >/dev/null\necho core >>{notes}\n")
    handler.chmod(0o755)
    pattern.write_text(f"|{handler}")
    try:
        command = stage.command("core.py")
        open_job = await sup.run(command, limits={"limit_core": "infinity"}, stderr=supervisor.DEVNULL)
        assert open_job.exit.signal == signal.SIGSEGV, open_job
        eventually(notes.exists)
        notes.unlink()
        outcome = await stage.job(sup, command, scenario, level)
        await sup.run(command, limits={"limit_core": "infinity"}, stderr=supervisor.DEVNULL)
        eventually(notes.exists)
        assert notes.read_text() == "core\n", "the handler was started for the sandboxed job"
        return outcome
    finally:
        pattern.write_text(before)


# ---- what does not start ----


def _not_started(outcome: Outcome, *errnos: int) -> Outcome:
    assert outcome.error is not None and outcome.error.stage == "exec" and outcome.error.errno in errnos, outcome
    assert outcome.exit.code is None and outcome.exit.signal is None, outcome
    return outcome


async def too_many_words(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    return _not_started(await stage.job(sup, ["/bin/true", *["x" * 100_000] * 40], scenario, level), 7)  # E2BIG


async def _file(stage: Stage, sup: Supervisor, scenario: Scenario, level: str, text: str | None, mode: int) -> Outcome:
    work = stage.work()
    try:
        if text is not None:
            (work / "program").write_text(text)
            (work / "program").chmod(mode)
        return await stage.job(sup, [str(work / "program")], scenario, level, bind=[str(work)])
    finally:
        shutil.rmtree(work)


async def no_such_file(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    return _not_started(await _file(stage, sup, scenario, level, None, 0), 2)  # ENOENT


async def no_permission(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    return _not_started(await _file(stage, sup, scenario, level, "#!/bin/sh\n", 0o644), 13)  # EACCES


async def bad_interpreter(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    return _not_started(await _file(stage, sup, scenario, level, "#!/no/such/interpreter\n", 0o755), 2, 8)  # ENOENT, told as ENOEXEC


async def busy_text(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    work = stage.work()
    try:
        shutil.copy("/bin/true", work / "busy")
        with open(work / "busy", "r+b"):
            return _not_started(await stage.job(sup, [str(work / "busy")], scenario, level, bind=[str(work)]), 26)  # ETXTBSY
    finally:
        shutil.rmtree(work)


# ---- the supervisor, time, and many jobs ----


async def supervisor_is_killed(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """Another process runs a job with a daemon and is killed; everything ends, and a later start removes its cgroups."""
    code = """
import sys, supervisor
script = "setsid sleep 1000 & echo ready > /proc/self/fd/$1; sleep 1000"
supervisor.run(["/bin/sh", "-c", script, "sh", sys.argv[1]], sandbox="strict", pass_fds=[int(sys.argv[1])])
"""
    with Line() as line:
        with subprocess.Popen([sys.executable, "-c", code, str(line.end)], pass_fds=[line.end]) as owner:
            line.release()
            try:
                assert line.read()
            finally:
                owner.kill()
        line.wait_closed()
    async with Supervisor() as later:
        outcome = await later.run(["/bin/true"], sandbox=stage.sandbox(level))
    base = facts.cgroup_base()
    if base is not None:
        eventually(lambda: not [*base.parent.glob(f"**/ringfence-{owner.pid}-*")])
    return outcome


async def clock_is_stepped(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    job = await sup.start(["/bin/sleep", "1000"], sandbox=stage.sandbox(level), limits={"wall_time_max": "3s"})
    begun, real = time.monotonic(), time.time()
    try:
        for step in (DAY_SECONDS, -DAY_SECONDS):
            time.clock_settime(time.CLOCK_REALTIME, real + step)
            await asyncio.sleep(0.5)
            assert job.state == "running"
        outcome = await job.wait()
    finally:
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic() - begun)
    assert outcome.usage.wall_ns is not None and 3 * SECOND_NS <= outcome.usage.wall_ns < 3 * SECOND_NS + SLOW * SECOND_NS, outcome
    return outcome


async def _pair(stage: Stage, level: str, first: list[str], second: list[str], wall: int = 60) -> supervisor.PairOutcome:
    shown = stage.sandbox(level)
    options = [{"sandbox": shown, "limits": {"wall_time_max": seconds}} for seconds in (wall, 60)]
    return await asyncio.to_thread(supervisor.run_pair, first, second, first_options=options[0], second_options=options[1])


async def closes_early(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """The reader gives up with an error of its own, and that is what explains the writer's SIGPIPE."""
    pair = await _pair(stage, level, ["yes"], ["sh", "-c", "head -c 1 >/dev/null; exit 3"])
    assert (pair.first.exit.signal, pair.second.exit.code, pair.blamed) == (signal.SIGPIPE, 3, "second"), pair
    return pair.first


async def hangs(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    pair = await _pair(stage, level, ["sleep", "1000"], ["cat"], wall=1)
    assert (pair.second.verdict, pair.blamed) == ("ok", "first"), pair
    return pair.first


async def hundred_at_once(stage: Stage, sup: Supervisor, scenario: Scenario, level: str) -> Outcome:
    """Each has a limit and a name of its own, and sees only its own files and processes; every tenth breaks its limit."""

    async def one(number: int) -> Outcome:
        script = "echo $1 >/tmp/own; ulimit -n; hostname; cat /tmp/own; ls -d /proc/[0-9]* | wc -l; [ $1 -eq 0 ] || sleep 1000"
        breaks = number % 10 == 0
        limits = {"limit_nofile": 64 + number, "wall_time_max": "2s" if breaks else 60 + number}
        command = ["/bin/sh", "-c", script, "sh", str(int(breaks))]
        job = await sup.start(command, sandbox=stage.sandbox(level, hostname=f"job-{number}"), limits=limits, capture_output=True)
        outcome = await job.wait()
        assert outcome.verdict == ("wall_limit" if breaks else "ok"), outcome
        assert outcome.stdout is not None
        said = outcome.stdout.decode().split()
        wanted = [str(64 + number), f"job-{number}", str(int(breaks))]
        assert said[:3] == (wanted[: len(said)] if breaks else wanted), outcome  # one that is ended may not have come to the end
        assert len(said) < 4 or int(said[3]) <= 4, outcome
        return outcome

    outcomes = await asyncio.gather(*[one(number) for number in range(100)])
    return outcomes[1]
