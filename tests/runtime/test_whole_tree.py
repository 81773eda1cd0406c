# SPDX-License-Identifier: Apache-2.0
"""No descendant outlives its job, whatever it did to get away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import facts
import pytest
from programs import probe, python, sh
from waiting import SLOW, Line, is_alive, wait_dead

import supervisor

SHAPES = {"daemon": 1, "deaf": 1, "stopped": 1, "many": 80, "chain": 1}


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_job_leaves_behind_goes_with_it(shape: str) -> None:
    """The main process exits 0; its verdict stays its own, and no process holds the pipe any more."""
    with Line() as line:
        outcome = supervisor.run(probe("daemon", shape, line.end), pass_fds=[line.end], limits={"wall_time_max": 30})
        assert (outcome.verdict, outcome.killed) == ("ok", False), outcome
        line.release()
        pids = [int(line.read(timeout=1)) for _ in range(SHAPES[shape])]
        line.wait_closed(timeout=1)
    assert not [pid for pid in pids if is_alive(pid)]


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_limit_ends_the_whole_tree_and_not_only_the_main_process(shape: str) -> None:
    """Wall time; the main process is alive until then."""
    with Line() as line:
        outcome = supervisor.run(probe("daemon", shape, line.end, "stay"), pass_fds=[line.end], limits={"wall_time_max": 0.8 * SLOW})
        assert outcome.verdict == "wall_limit", outcome
        line.release()
        assert line.read(timeout=1)
        line.wait_closed(timeout=1)


@pytest.mark.usefixtures("holder")
def test_a_grandchild_that_keeps_stdout_open_does_not_hold_the_job() -> None:
    """The reader does not wait for an end of file that never comes; what was printed before is there."""
    outcome = supervisor.run(sh("sleep 1000 & echo out; echo err >&2"), capture_output=True, limits={"wall_time_max": 20})
    assert (outcome.verdict, outcome.stdout, outcome.stderr) == ("ok", b"out\n", b"err\n"), outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns < 10e9


@pytest.mark.usefixtures("holder")
def test_a_job_that_kills_its_parent_does_not_free_its_children() -> None:
    """A child kills the main process: signalled, and the killer is gone too."""
    with Line() as line:
        code = "import os, signal, sys\nif os.fork() == 0: os.kill(os.getppid(), 9)\nsignal.pause()"
        outcome = supervisor.run(python(code), pass_fds=[line.end], limits={"wall_time_max": 20})
        assert (outcome.verdict, outcome.exit.signal, outcome.killed) == ("signaled", 9, False)
        line.wait_closed(timeout=1)


@pytest.mark.requires("userns")
@pytest.mark.usefixtures("holder")
def test_a_job_with_a_pid_namespace_of_its_own_is_ended_whole() -> None:
    """Processes that have other ids inside are still ours."""
    with Line() as line:
        inside = probe("daemon", "deaf", line.end, "stay")
        command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", *inside]
        outcome = supervisor.run(command, pass_fds=[line.end], limits={"wall_time_max": 1.0 * SLOW})
        assert outcome.verdict == "wall_limit", outcome
        line.release()
        assert int(line.read(timeout=1)) < 20
        line.wait_closed(timeout=1)


@pytest.mark.usefixtures("holder")
def test_many_generations_are_ended_whole() -> None:
    """A ladder of forty processes, each the child of the one before."""
    with Line() as line:
        code = "import os, signal, sys\nfor n in range(40):\n  if os.fork(): break\nelse: os.write(int(sys.argv[1]), b'deep\\n')\nsignal.pause()"
        outcome = supervisor.run(python(code, line.end), pass_fds=[line.end], limits={"wall_time_max": 1.0 * SLOW})
        assert outcome.verdict == "wall_limit"
        line.release()
        assert line.read(timeout=1) == "deep"
        line.wait_closed(timeout=1)


def test_the_init_helper_that_is_killed_by_the_job_is_no_success(no_cgroup: None) -> None:
    """A hostile job kills what holds it: the outcome says that the end is not known, never ok."""
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nsignal.pause()"
    outcome = supervisor.run(python(code), limits={"wall_time_max": 5})
    assert outcome.verdict == "sandbox_error", outcome
    assert outcome.error is not None and outcome.error.stage == "helper"


@pytest.mark.parametrize(
    "loop", ["os.kill(os.getppid(), signal.SIGSTOP)\nwhile True: pass", "while True: os.kill(os.getppid(), signal.SIGSTOP)"]
)
@pytest.mark.parametrize("limit", ["cpu_time_max", "wall_time_max"])
async def test_the_init_helper_that_is_stopped_by_the_job_does_not_stop_the_limits(limit: str, loop: str, no_cgroup: None) -> None:
    """Once, or again and again: the job is ended all the same, and other jobs of the supervisor are not held up."""
    async with supervisor.Supervisor() as sup, asyncio.timeout(10 * SLOW):
        job = await sup.start(python(f"import os, signal\n{loop}"), limits={limit: 0.3})
        while job.outcome is None:
            before = time.monotonic()
            assert (await sup.run(["true"])).ok
            assert time.monotonic() - before < 1 * SLOW
        outcome = await job.wait()
    assert outcome.verdict in ("cpu_limit", "wall_limit", "sandbox_error") and outcome.exit.code is None, outcome


RUNNER = """
import asyncio, sys, supervisor
sys.path.insert(0, sys.argv[2])
from programs import probe
fd = int(sys.argv[1])
command = probe("daemon", "daemon", fd, "stay")
def once():
    supervisor.run(command, pass_fds=[fd])
async def scope():
    async with supervisor.Supervisor() as sup:
        job = await sup.start(command, pass_fds=[fd])
        await job.wait()
asyncio.run(scope()) if sys.argv[3] == "scope" else once()
"""


def start_runner(line: Line, way: str) -> subprocess.Popen[bytes]:
    """A supervisor in a process of its own that runs a job with a daemon in it."""
    return subprocess.Popen([sys.executable, "-c", RUNNER, str(line.end), str(Path(__file__).parent.parent), way], pass_fds=[line.end])


def child_pids(pid: int) -> list[int]:
    pids = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        pids += [int(child) for child in (task / "children").read_text().split()]
    return pids


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("way", ["run", "scope"])
def test_kill_9_of_the_supervisor_takes_the_job_along(way: str, holder: str) -> None:
    """The main process dies at once. With the helper all do; a cgroup's rest goes at the next start."""
    with Line() as line, start_runner(line, way) as runner:
        try:
            daemon = int(line.read())
            below = child_pids(runner.pid)
            assert len(below) == 1
            main = below[0] if holder == "cgroup" else child_pids(below[0])[0]
            os.kill(runner.pid, signal.SIGKILL)
            runner.wait()
            wait_dead(main)
            if holder == "cgroup":
                supervisor.run(["true"])  # a later supervisor in the same place sweeps
            wait_dead(daemon)
            line.wait_closed()
        finally:
            runner.kill()
        base = facts.cgroup_base()
        assert base is None or not list(base.glob(f"ringfence-{runner.pid}-*"))


@pytest.mark.usefixtures("holder")
def test_a_job_may_outlive_nobody_when_its_supervisor_exits_in_good_order() -> None:
    """A supervisor that is terminated politely by a Python exit leaves nothing either."""
    code = "import supervisor, sys; supervisor.run(['/bin/sh', '-c', 'sleep 1000 & exit 3'], pass_fds=[int(sys.argv[1])])"
    with Line() as line:
        subprocess.run([sys.executable, "-c", code, str(line.end)], pass_fds=[line.end], check=True)
        line.wait_closed(timeout=1)


@pytest.mark.usefixtures("holder")
async def test_a_descriptor_passed_to_a_job_ends_when_the_job_lets_go_of_it() -> None:
    """Nothing of ours, the init helper included, keeps it open while the job runs on."""
    with Line() as line:
        async with supervisor.Supervisor() as sup:
            code = "import os, signal, sys\nos.close(int(sys.argv[1]))\nsignal.pause()"
            job = await sup.start(python(code, line.end), pass_fds=[line.end], kill_grace=0)
            line.wait_closed()
            assert job.state == "running"
