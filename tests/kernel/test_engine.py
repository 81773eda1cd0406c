# SPDX-License-Identifier: Apache-2.0
"""The engine as Python sees it: one descriptor for exits, launches, readiness and signals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waiting import Line

from supervisor.kernel import native
from supervisor.kernel.native import EMPTY, EXITED, READY, SIGNAL, Engine


@pytest.fixture
def engine() -> Any:
    made = Engine()
    yield made
    made.close()
    made.close()


def wait_for(engine: Engine, kind: int) -> Any:
    """The next event of that kind."""
    while True:
        for event in engine.poll(20_000_000_000):
            if event.kind == kind:
                return event


def watch(engine: Engine, token: int, pid: int) -> None:
    """Have the exit of a child of ours told."""
    child = native.ffi.new("struct sup_child *", {"pid": pid, "pidfd": native.open_pidfd(pid), "cgroup_fd": -1, "listener_fd": -1})
    engine.adopt(token, b"", -1, child)
    assert child.err == 0


def test_an_idle_engine_has_nothing_to_say(engine: Engine) -> None:
    """Polling without waiting returns at once, and the descriptor is not readable."""
    assert engine.poll(0) == []
    assert select.select([engine.fileno()], [], [], 0)[0] == []


def test_a_time_out_of_microseconds_is_kept(engine: Engine) -> None:
    """A tenth of a millisecond is neither zero nor a whole one more than needed."""
    begun = native.now_ns()
    for _ in range(100):
        engine.poll(100_000)
    assert 10_000_000 <= native.now_ns() - begun < 500_000_000


def test_exits_are_events_with_the_token_of_the_child(engine: Engine) -> None:
    """Code or signal, the time, and what it used."""
    for command, code, detail in ((["/bin/sh", "-c", "exit 9"], 9, 0), (["/bin/sh", "-c", "kill -15 $$"], 15, 1)):
        token = engine.new_token()
        pid = os.posix_spawn(command[0], command, os.environ)
        watch(engine, token, pid)
        event = wait_for(engine, EXITED)
        assert (event.token, event.code, event.detail) == (token, code, detail)
        assert event.time_ns <= native.now_ns() and event.maxrss_kib > 0


def test_tokens_are_never_given_twice(engine: Engine) -> None:
    """Ascending numbers."""
    tokens = [engine.new_token() for _ in range(100)]
    assert tokens == sorted(set(tokens))


def test_readiness_is_told_until_it_is_unwatched(engine: Engine) -> None:
    """Level-triggered: as long as there is something to read."""
    with Line() as line:
        watch = engine.watch_ready(7, line._read)
        assert engine.poll(0) == []
        os.write(line.end, b"x\n")
        assert wait_for(engine, READY).token == 7
        assert wait_for(engine, READY).token == 7
        engine.unwatch(watch)
        assert engine.poll(0) == []
        with open("/etc/passwd", "rb") as plain, pytest.raises(OSError, match="Operation not permitted"):
            engine.watch_ready(8, plain.fileno())


def test_signals_are_events_while_they_are_watched(engine: Engine) -> None:
    """With their sender; afterwards the mask is as before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    engine.watch_signals((signal.SIGUSR1, signal.SIGTERM))
    os.kill(os.getpid(), signal.SIGUSR1)
    event = wait_for(engine, SIGNAL)
    assert (event.code, event.detail) == (signal.SIGUSR1, os.getpid())
    engine.unwatch_signals()
    engine.unwatch_signals()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.requires("cgroup")
def test_an_empty_cgroup_is_an_event(engine: Engine) -> None:
    """Woken by the kernel when the last process is gone."""
    from supervisor.kernel.cgroup_root import open_cgroup_root

    root = open_cgroup_root()
    try:
        os.mkdir("job", dir_fd=root.fd)
        with subprocess.Popen(["sleep", "1000"]) as process:
            with open(os.path.join(root.facts.path, "job", "cgroup.procs"), "w", encoding="ascii") as procs:
                procs.write(str(process.pid))
            engine.watch_empty(3, os.open(os.path.join(root.facts.path, "job", "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC))
            assert engine.poll(0) == []
            process.kill()
        assert wait_for(engine, EMPTY).token == 3
        os.rmdir("job", dir_fd=root.fd)
    finally:
        root.close()


def test_the_engines_descriptor_becomes_readable_with_an_event(engine: Engine) -> None:
    """So that any event loop can wait on it."""
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    watch(engine, 1, pid)
    assert select.select([engine.fileno()], [], [], 20)[0]
    assert wait_for(engine, EXITED).code == 0


def test_a_signal_to_a_process_that_is_gone_is_false_and_a_wrong_one_an_error() -> None:
    """ESRCH is an answer, EINVAL is not."""
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    fd = native.open_pidfd(pid)
    os.waitpid(pid, 0)
    try:
        assert native.send_signal(fd, 0) is False
    finally:
        os.close(fd)
    own = native.open_pidfd(os.getpid())
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            native.send_signal(own, 999)
    finally:
        os.close(own)


def test_native_results_below_zero_become_errors() -> None:
    """With the kernel's words."""
    assert native.check(3) == 3
    with pytest.raises(PermissionError):
        native.check(-13, "file")


def test_threads_that_read_at_once_each_get_their_own_files_text(tmp_path: Path) -> None:
    """Eight files, 5,000 reads of each by a thread of its own."""
    for name in "abcdefgh":
        (tmp_path / name).write_text(name * 1000)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def wrong(name: str) -> int:
        return sum(native.read_at(folder, name) != name * 1000 for _ in range(5000))

    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(wrong, "abcdefgh")) == [0] * 8
    finally:
        os.close(folder)
