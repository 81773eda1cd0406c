# SPDX-License-Identifier: Apache-2.0
"""Cgroups of the kernel: a supervisor's directory, its lock, the sweep of dead ones, and one job's subtree."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import facts
import pytest
from waiting import eventually, is_alive, wait_dead

import supervisor
from supervisor import CgroupError, ConfigError
from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.cgroup_root import CgroupRoot, open_cgroup_root
from supervisor.kernel.held_signals import HeldSignals
from supervisor.kernel.native import Engine
from supervisor.kernel.sweep import sweep
from supervisor.kernel.tree import CgroupTree, wait_frozen
from supervisor.runtime.execution import Execution
from supervisor.runtime.oneshot import Ground, run_execution

pytestmark = pytest.mark.requires("cgroup")


@pytest.fixture
def root() -> Iterator[CgroupRoot]:
    made = open_cgroup_root()
    yield made
    made.close()


@pytest.fixture
def cgroup(root: CgroupRoot) -> Iterator[Cgroup]:
    """An empty cgroup below ours."""
    os.mkdir("job", dir_fd=root.fd)
    made = Cgroup(root.fd, "job", os.open("job", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.fd))
    yield made
    if made.fd >= 0:
        made.kill()
        eventually(lambda: not made.is_populated())
        made.remove()


def sleeper(cgroup: Cgroup, path: str = "") -> subprocess.Popen[bytes]:
    """A sleeping process in the cgroup."""
    process = subprocess.Popen(["sleep", "1000"])
    cgroup.write(f"{path}/cgroup.procs" if path else "cgroup.procs", str(process.pid))
    return process


def test_a_supervisors_directory_is_locked_named_after_it_and_gone_at_the_end() -> None:
    """Two of one process do not share."""
    one, two = open_cgroup_root(), open_cgroup_root()
    try:
        assert one.name != two.name and one.name.startswith(f"ringfence-{os.getpid()}-")
        assert os.path.isdir(os.path.join(one.base, one.name))
        sweep(one.base)
        assert os.path.isdir(os.path.join(one.base, one.name))
        assert one.facts.path == os.path.join(one.base, one.name)
    finally:
        one.close()
        one.close()
        two.close()
    assert not os.path.exists(one.facts.path) and not os.path.exists(two.facts.path)


def test_a_path_given_is_used_or_refused(root: CgroupRoot) -> None:
    """Below a directory of ours; a folder that is no cgroup is a ConfigError."""
    inner = open_cgroup_root(root.facts.path)
    assert Path(inner.facts.path).parent == Path(root.facts.path)
    assert inner.facts.source == "path given"
    inner.close()
    for wrong in ("/tmp", "/no/such/folder", "/etc/passwd"):
        with pytest.raises(ConfigError, match=f"cgroup: {wrong} cannot be used"):
            open_cgroup_root(wrong)


def test_the_controllers_named_in_the_facts_are_really_on(root: CgroupRoot) -> None:
    """Read back from the kernel, and usable in a directory below."""
    on = set((Path(root.facts.path) / "cgroup.subtree_control").read_text().split())
    assert root.facts.controllers <= on


DIES = """
import os, sys, subprocess
from supervisor.kernel.cgroup_root import open_cgroup_root
root = open_cgroup_root()
os.makedirs(os.path.join(root.facts.path, "job-1/box/deeper"))
child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open(os.path.join(root.facts.path, "job-1/box/deeper/cgroup.procs"), "w").write(str(child.pid))
print(root.base, root.name, child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_dead_supervisor_left_is_killed_and_removed() -> None:
    """Its lock went with it; processes, nested directories and all."""
    done = subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    base, name, pid = done.stdout.split()
    sweep(base)  # or whoever else starts just now
    wait_dead(int(pid))
    assert not os.path.exists(os.path.join(base, name))


def test_a_dead_supervisors_directory_is_swept_although_its_job_holds_the_lock() -> None:
    """The lock came to the job with the descriptor; the mark names an owner that is gone for certain."""
    holds = DIES.replace("start_new_session=True", "start_new_session=True, pass_fds=[root.fd]")
    done = subprocess.run([sys.executable, "-c", holds], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    base, name, pid = done.stdout.split()
    try:
        sweep(base)
        assert not os.path.exists(os.path.join(base, name)) and not is_alive(int(pid))
    finally:
        if is_alive(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def test_the_sweep_touches_nothing_that_only_has_a_name_like_ours() -> None:
    """Without our mark a directory is somebody else's: it and the process in it outlive a job of ours."""
    base = facts.cgroup_base()
    assert base is not None
    stranger = base / "ringfence-1-000000001"
    stranger.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            (stranger / "cgroup.procs").write_text(str(child.pid))
            assert supervisor.run(["true"]).ok
            assert stranger.is_dir() and child.poll() is None
        finally:
            child.kill()
            child.wait()
            eventually(lambda: not stranger.exists() or _removed(str(stranger)))


def test_an_empty_directory_named_after_a_dead_process_is_removed_without_a_mark() -> None:
    """Its supervisor was killed before it could mark it. One that somebody holds, or that is named after the living, stays."""
    base = facts.cgroup_base()
    assert base is not None
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, held, young = (base / f"ringfence-{pid}-00000000{n}" for n, pid in ((1, gone.pid), (2, gone.pid), (3, os.getpid())))
    for path in (left, held, young):
        path.mkdir()
    fd = os.open(held, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        sweep(str(base))
        assert (left.exists(), held.exists(), young.exists()) == (False, True, True)
    finally:
        os.close(fd)
        for path in (held, young):
            path.rmdir()


def test_the_sweep_leaves_the_living_and_strangers_alone(root: CgroupRoot) -> None:
    """Only our mark with a free lock is swept."""
    stranger = Path(root.base) / f"not-ours-{os.getpid()}"
    stranger.mkdir()
    try:
        sweep(root.base)
        assert stranger.is_dir() and os.path.isdir(root.facts.path)
    finally:
        stranger.rmdir()
    assert sweep("/no/such/folder") == 0


def test_without_descriptors_nothing_is_taken_for_missing(cgroup: Cgroup) -> None:
    """A file that cannot be opened is unread, and says why; what cannot be seen to be empty is not."""
    with exhausted_descriptors():
        assert cgroup.read("cgroup.procs") is None
        assert cgroup.unread == "cgroup.procs: Too many open files"
        assert cgroup.is_populated()
    assert cgroup.read("no.such.file") is None and not cgroup.is_populated()


def test_the_numbers_of_a_job_that_ends_without_descriptors_are_known(root: CgroupRoot) -> None:
    """The one by which its end was watched is free by then."""
    with contextlib.ExitStack() as stack, HeldSignals() as held:
        ground = stack.enter_context(contextlib.closing(Ground()))
        engine = stack.enter_context(contextlib.closing(Engine()))
        plan, host = ground.plan(spec := supervisor.JobSpec(argv=["true"]))
        execution = Execution(engine, spec, plan, host, ground.root)
        supervisor.run(["true"])  # what is loaded once is loaded
        outcome = run_execution(execution, held, on_launch=lambda: stack.enter_context(exhausted_descriptors()))
    assert outcome.ok and outcome.sources["cpu_ns"] == "cgroup cpu.stat" and outcome.warnings == ()


@contextlib.contextmanager
def exhausted_descriptors() -> Iterator[None]:
    """No descriptor can be had meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)


def test_kill_ends_every_process_below(cgroup: Cgroup) -> None:
    """In the directory and in those the job made."""
    os.makedirs(f"/proc/self/fd/{cgroup.fd}/a/b")
    processes = [sleeper(cgroup, path) for path in ("", "a", "a/b")]
    assert sorted(cgroup.members()) == sorted(process.pid for process in processes)
    assert cgroup.is_populated()
    cgroup.kill()
    assert [process.wait(10) for process in processes] == [-9, -9, -9]
    eventually(lambda: not cgroup.is_populated())
    assert cgroup.members() == []


def test_kill_one_by_one_does_it_too(cgroup: Cgroup) -> None:
    """The way of kernels without cgroup.kill."""
    processes = [sleeper(cgroup) for _ in range(5)]
    cgroup._kill_each()
    assert [process.wait(10) for process in processes] == [-9] * 5


def test_kill_one_by_one_passes_over_who_may_not_be_killed(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user's: the others are killed, and nobody stays frozen."""
    processes = [sleeper(cgroup) for _ in range(3)]
    refusing, kill = processes[1].pid, os.kill

    def refuse(pid: int, number: int) -> None:
        if pid == refusing:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        kill(pid, number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        cgroup._kill_each()
    assert [processes[n].wait(10) for n in (0, 2)] == [-9] * 2
    eventually(lambda: not cgroup.is_frozen())
    cgroup.kill()
    assert processes[1].wait(10) == -9


def test_freeze_stops_and_thaw_continues(cgroup: Cgroup) -> None:
    """``frozen 1`` comes as an event; killing works on the frozen."""
    process = sleeper(cgroup)
    cgroup.freeze(True)
    assert wait_frozen(cgroup, 10_000)
    assert cgroup.is_frozen()
    cgroup.freeze(False)
    eventually(lambda: not cgroup.is_frozen())
    cgroup.freeze(True)
    cgroup.kill()
    assert process.wait(10) == -9


def test_remove_takes_what_the_job_made_along(cgroup: Cgroup, root: CgroupRoot) -> None:
    """Nested empty directories, deepest first."""
    os.makedirs(f"/proc/self/fd/{cgroup.fd}/a/b/c")
    os.makedirs(f"/proc/self/fd/{cgroup.fd}/d")
    cgroup.remove()
    assert not os.path.exists(os.path.join(root.facts.path, "job"))


def test_remove_of_a_living_tree_is_an_error_that_says_what(cgroup: Cgroup, root: CgroupRoot) -> None:
    """EBUSY with the directory's name, and the descriptor is closed all the same."""
    process = sleeper(cgroup)
    with pytest.raises(CgroupError, match="remove job"):
        cgroup.remove()
    process.kill()
    process.wait()
    eventually(lambda: _removed(os.path.join(root.facts.path, "job")))


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def test_files_that_are_not_there_are_none_and_writes_to_them_errors(cgroup: Cgroup) -> None:
    """Reading tells absence, writing raises."""
    assert cgroup.read("no.such.file") is None
    with pytest.raises(CgroupError, match=r"write job/no\.such\.file"):
        cgroup.write("no.such.file", "1")


def test_a_tree_without_a_freezer_is_paused_by_signals(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP and SIGCONT to every member, as on old kernels."""
    process = sleeper(cgroup)

    def no_freezer(_self: Cgroup, frozen: bool) -> None:
        raise CgroupError(2, "no such file", "cgroup.freeze", "write")

    monkeypatch.setattr(Cgroup, "freeze", no_freezer)
    tree = CgroupTree(cgroup, -1)
    tree.pause()
    eventually(lambda: _state(process.pid) == "T")
    tree.resume()
    eventually(lambda: _state(process.pid) == "S")
    process.kill()
    process.wait()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_processor_time_of_a_cgroup_is_known_without_any_controller(cgroup: Cgroup) -> None:
    """cpu.stat is a core file."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()\nfor _ in range(10**6): pass"], stdin=subprocess.PIPE) as process:
        cgroup.write("cgroup.procs", str(process.pid))
        process.communicate(b"\n")
    cpu = CgroupTree(cgroup, -1).cpu_ns()
    assert cpu is not None and cpu > 1_000_000


def test_sixteen_supervisors_start_and_end_at_once() -> None:
    """They sweep while the others make and remove their own: nobody loses a directory."""
    code = "from supervisor.kernel.cgroup_root import open_cgroup_root\nimport os\nfor _ in range(10):\n  r = open_cgroup_root(); os.mkdir('x', dir_fd=r.fd); os.rmdir('x', dir_fd=r.fd); r.close()"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(16)]
    errors = [process.communicate(timeout=50)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 16, errors
    base = facts.cgroup_base()
    assert base is not None
    pids = {process.pid for process in processes}
    assert not [path for path in base.glob("ringfence-*") if int(path.name.split("-")[1]) in pids]
