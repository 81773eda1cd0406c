# SPDX-License-Identifier: Apache-2.0
"""Signals and terminals of ``ringfence run``."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import leftovers, start
from facts import NOBODY
from programs import RINGFENCE, python, without_cap_kill
from waiting import PATIENCE, Line, eventually, is_alive, wait_dead

HEARS = (
    "import os, signal, sys\n"
    "fd, known = int(sys.argv[1]), (1, 2, 3, 10, 12, 15, 28)\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, known)\n"
    "os.write(fd, b'ready %d\\n' % os.getpid())\n"
    "while n := signal.sigwait(known):\n"
    "  os.write(fd, b'%d\\n' % n)\n"
    "  if n in (1, 2, 3, 15): sys.exit(40 + n)\n"
)
DEAF = "import os, signal, sys\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\nos.write(int(sys.argv[1]), b'ready %d\\n' % os.getpid())\nwhile True: signal.pause()"


@contextmanager
def running(*args: object, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """``ringfence run ARGS`` in a session of its own; killed if the test fails, swept in any case."""
    process = start("run", *args, start_new_session=True, **options)
    try:
        yield process
        process.wait(PATIENCE)
        assert not leftovers(process.pid)
    finally:
        process.kill()
        process.wait()


# what is passed through: ringfence run inherits descriptors only by file, so programs speak through a FIFO


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A FIFO: its path, and a descriptor from which to read what is written there."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield path, fd
    os.close(fd)


def heard(fd: int) -> str:
    """The next line from the FIFO."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], PATIENCE)[0], f"nothing was said; so far {line!r}"
        line += os.read(fd, 1)
    return line.decode().strip()


def speaker(code: str, path: str) -> list[str]:
    """The program with the FIFO opened as its descriptor argument."""
    return python("import os, sys\nsys.argv[1] = str(os.open(sys.argv[1], os.O_WRONLY))\n" + code, path)


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_an_ending_signal_reaches_the_command_and_its_status_is_ours(number: int, fifo: tuple[str, int]) -> None:
    """The command handles it and exits by itself; cancelled is the verdict, the exit status its own."""
    path, fd = fifo
    with running(*speaker(HEARS, path)) as process:
        assert heard(fd).startswith("ready")
        process.send_signal(number)
        assert heard(fd) == str(int(number))
    assert process.returncode == 40 + number


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH])
def test_other_signals_are_forwarded_and_nothing_ends(number: int, fifo: tuple[str, int]) -> None:
    """The command hears them and runs on."""
    path, fd = fifo
    with running(*speaker(HEARS, path)) as process:
        assert heard(fd).startswith("ready")
        process.send_signal(number)
        assert heard(fd) == str(int(number))
        process.send_signal(number)
        assert heard(fd) == str(int(number))
        process.terminate()
        assert heard(fd) == "15"
    assert process.returncode == 55


@pytest.mark.usefixtures("holder")
def test_a_deaf_command_is_killed_when_its_grace_is_over(fifo: tuple[str, int]) -> None:
    """--kill-grace, then SIGKILL to the tree: 137."""
    path, fd = fifo
    with running("--kill-grace=300ms", *speaker(DEAF, path)) as process:
        pid = int(heard(fd).split()[1])
        process.terminate()
        wait_dead(pid)
    assert process.returncode == 137


@pytest.mark.usefixtures("holder")
def test_a_second_interrupt_does_not_wait_for_the_grace(fifo: tuple[str, int]) -> None:
    """Two SIGINT end even a deaf command with a grace of a minute."""
    path, fd = fifo
    with running("--kill-grace=60s", *speaker(DEAF, path)) as process:
        pid = int(heard(fd).split()[1])
        process.send_signal(signal.SIGINT)
        eventually(lambda: not _pending(process.pid, signal.SIGINT))
        assert is_alive(pid)
        process.send_signal(signal.SIGINT)
        wait_dead(pid)
    assert process.returncode == 137


def _pending(pid: int, number: int) -> bool:
    """The signal waits to be read by the process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("ShdPnd:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


@pytest.mark.usefixtures("holder")
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(fifo: tuple[str, int], tmp_path: Path) -> None:
    """nohup: a hang-up ends neither of us, and the command goes on to its own end."""
    path, fd = fifo
    program = speaker("os.write(int(sys.argv[1]), b'ready\\n'); sys.stdin.read(); sys.exit(7)", path)
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with running("--result", tmp_path / "result", *program, **options) as process:
        assert heard(fd) == "ready" and process.stdin is not None
        process.send_signal(signal.SIGHUP)
        process.stdin.close()
    assert process.returncode == 7
    assert json.loads((tmp_path / "result").read_text())["verdict"] == "nonzero_exit"


@pytest.mark.usefixtures("holder")
def test_a_kill_of_ringfence_itself_takes_the_command_along(fifo: tuple[str, int]) -> None:
    """SIGKILL gives no chance to do anything; the kernel does it."""
    path, fd = fifo
    process = start("run", *speaker(DEAF, path))
    pid = int(heard(fd).split()[1])
    process.kill()
    process.wait()
    wait_dead(pid)
    import supervisor

    supervisor.run(["true"])  # sweeps
    assert not leftovers(process.pid)


@pytest.mark.usefixtures("holder")
def test_the_verdict_of_an_interrupted_command_is_cancelled(fifo: tuple[str, int], tmp_path: Path) -> None:
    """In the result; the summary says it."""
    path, fd = fifo
    with running("--result", tmp_path / "result", *speaker(HEARS, path), stderr=subprocess.PIPE, text=True) as process:
        heard(fd)
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read().startswith("ringfence: cancelled exit 55")
        process.stderr.close()
    made = json.loads((tmp_path / "result").read_text())
    assert (made["verdict"], made["killed"], made["exit"]["code"]) == ("cancelled", True, 55)


# terminals


class Terminal:
    """A pseudo-terminal with a program in its foreground, and what came from it so far."""

    def __init__(self, *args: object, size: tuple[int, int] = (24, 80)) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("RINGFENCE_VM", None)
            try:
                os.execv(RINGFENCE, ["ringfence", *map(str, args)])
            finally:
                os._exit(99)
        self.seen = b""
        self.resize(*size)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def wait_for(self, text: bytes) -> bytes:
        """Everything up to and with ``text``."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], f"{text!r} did not come: {self.seen!r}"
            try:
                more = os.read(self.fd, 65536)
            except OSError:
                more = b""
            assert more, f"{text!r} did not come before the end: {self.seen!r}"
            self.seen += more
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def wait(self) -> int:
        """The exit status, as a shell's."""
        eventually(self._ended)
        return os.waitstatus_to_exitcode(self._status)

    def _ended(self) -> bool:
        if select.select([self.fd], [], [], 0)[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                pass
        pid, self._status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.pid = 0
        return pid != 0

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextmanager
def terminal(*args: object, **options: Any) -> Iterator[Terminal]:
    made = Terminal(*args, **options)
    try:
        yield made
    finally:
        made.close()


EDITOR = (
    "import os, signal, sys, termios, tty\n"
    "assert os.isatty(0) and os.isatty(1) and os.isatty(2)\n"
    "os.close(os.open('/dev/tty', os.O_RDWR))\n"
    "say = lambda *words: os.write(1, ' '.join(map(str, words)).encode() + b'.\\r\\n')\n"
    "size = lambda *_: say('size', *termios.tcgetwinsize(0))\n"
    "signal.signal(signal.SIGWINCH, size)\n"
    "tty.setraw(0); size()\n"
    "while True:\n"
    "  key = os.read(0, 1)\n"
    "  say('key', key[0])\n"
    "  if key == b'q': sys.exit(17)\n"
)


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_pty_gives_an_editor_its_keys_its_size_and_its_status() -> None:
    """Raw keys arrive one by one, Ctrl-C among them as a byte, and the size follows ours."""
    with terminal("run", "--pty", *python(EDITOR), size=(30, 100)) as screen:
        screen.wait_for(b"size 30 100.")
        for key in b"a\x03\x1a\x04\x7f":
            screen.type(bytes([key]))
            screen.wait_for(b"key %d." % key)
        screen.resize(40, 120)
        screen.wait_for(b"size 40 120.")
        screen.type(b"q")
        assert screen.wait() == 17


@pytest.mark.requires("tty", "mount")
@pytest.mark.usefixtures("holder")
def test_pty_is_a_terminal_in_a_strict_sandbox_too() -> None:
    """It has a name there, job control, the size of ours, and keys arrive."""
    script = "tty; stty size < /dev/tty; echo ready; read line; echo got $line"
    with terminal("run", "--pty", "--sandbox", "strict", "/bin/sh", "-c", script, size=(30, 100)) as screen:
        assert b"/dev/console" in screen.wait_for(b"30 100")
        screen.wait_for(b"ready")
        screen.type(b"word\n")
        screen.wait_for(b"got word")
        assert screen.wait() == 0


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_pty_puts_the_callers_terminal_back_as_it_was() -> None:
    """Echo and line mode are on again after the end, whatever the command did to its own."""
    with terminal("run", "--pty", *python("import tty; tty.setraw(0); print('done')")) as screen:
        before = termios.tcgetattr(screen.fd)
        assert screen.wait() == 0
        assert termios.tcgetattr(screen.fd)[3] == before[3] or termios.tcgetattr(screen.fd)[3] & termios.ECHO


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_pty_relays_much_output_whole() -> None:
    """A megabyte through two terminals; line ends are the terminal's."""
    with terminal("run", "--pty", *python("import os\nfor n in range(2000): print('%0500d' % n)\nprint('the end')")) as screen:
        got = screen.wait_for(b"the end\r\n")
        assert screen.wait() == 0
    lines = got.replace(b"\r", b"").split(b"\n")
    assert [int(line) for line in lines[:2000]] == list(range(2000))


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_pty_under_limits_ends_like_any_other_job() -> None:
    """Wall time, output, and a leftover that keeps the terminal open."""
    with terminal("run", "--pty", "--wall-time-max=300ms", "sleep", 60) as screen:
        assert screen.wait() == 124
    with terminal("run", "--pty", "--output-max=10K", "yes") as screen:
        assert screen.wait() == 124
    with terminal("run", "--pty", "/bin/sh", "-c", "sleep 1000 & exit 5") as screen:
        assert screen.wait() == 5


@pytest.mark.usefixtures("holder")
def test_a_caller_that_ignores_the_ends_of_its_children_costs_nothing() -> None:
    """SIGCHLD ignored is inherited, and the kernel would keep no exit status for us."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = subprocess.run([RINGFENCE, "run", "sh", "-c", "exit 7"], preexec_fn=ignore, check=False, timeout=PATIENCE)
    assert done.returncode == 7


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("sandbox", ["none", "basic"])
def test_what_we_were_started_to_ignore_the_command_ignores(sandbox: str) -> None:
    """nohup: the signal goes to the whole process group, the command's process among them."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    command = [RINGFENCE, "run", "--sandbox", sandbox, "--", "grep", "SigIgn", "/proc/self/status"]
    done = subprocess.run(command, preexec_fn=ignore, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert int(done.stdout.split()[1], 16) == 1 << (signal.SIGHUP - 1), done.stderr


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("source", ["pipe", "file"])
@pytest.mark.parametrize(
    "text", [b"", b"one\ntwo\n", b"no end of line", b"%060d\n" % 0 * 3000], ids=["nothing", "lines", "inside a line", "much"]
)
def test_pty_hands_the_whole_of_its_input_on_and_its_end(text: bytes, source: str, tmp_path: Path) -> None:
    """Also when the last line has no end, and when the command takes its time to read."""
    command = [RINGFENCE, "run", "--pty", "--wall-time-max=15s", "sh", "-c", "stty -echo; echo ready; sleep 0.2; exec wc -c"]
    (tmp_path / "input").write_bytes(text)
    with (
        (tmp_path / "input").open("rb") as file,
        subprocess.Popen(command, stdin=file if source == "file" else subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        said, _ = process.communicate(text if source == "pipe" else None, timeout=PATIENCE)
    assert process.returncode == 0 and int(said.split()[-1]) == len(text)


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_pty_without_a_terminal_of_our_own_works_in_a_pipe() -> None:
    """Input and its end arrive; output comes as a terminal writes it."""
    done = subprocess.run([RINGFENCE, "run", "--pty", "cat"], input=b"typed\n", capture_output=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0
    assert b"typed\r\n" in done.stdout
    done = subprocess.run([RINGFENCE, "run", "--pty", "tty"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE)
    assert done.stdout.startswith(b"/dev/pts/")


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_ctrl_c_at_a_shared_terminal_reaches_the_command_once() -> None:
    """The kernel sends it to both of us; we do not send it again."""
    code = (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2])\nprint('ready', flush=True)\nsignal.sigwait([2])\n"
        "print('heard', 1 if signal.sigtimedwait([2], 0.3) is None else 2, flush=True)"
    )
    with terminal("run", "--kill-grace=20s", *python(code)) as screen:
        screen.wait_for(b"ready\r\n")
        screen.type(b"\x03")
        screen.wait_for(b"heard 1\r\n")
        assert screen.wait() == 0


@pytest.mark.requires("tty")
@pytest.mark.usefixtures("holder")
def test_ctrl_z_stops_the_whole_tree_and_sigcont_lets_it_run_on() -> None:
    """As a shell's job control: we stop, the command stands still, ``fg`` continues both."""
    code = "import sys, time\nn = 0\nwhile True:\n  print('tick', n, end='.\\n', flush=True); n += 1; time.sleep(0.01)"
    with terminal("run", "--kill-grace=0", *python(code)) as screen:
        screen.wait_for(b"tick 3.")
        screen.type(b"\x1a")
        _pid, status = os.waitpid(screen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        drained = _drain(screen)
        assert _drain(screen) == b"", drained
        os.kill(screen.pid, signal.SIGCONT)
        screen.wait_for(b"tick ")
        screen.type(b"\x03")
        assert screen.wait() in (128 + 2, 128 + 9, 1)


def _drain(screen: Terminal) -> bytes:
    """What is still under way; empty when nothing comes for 0.2 s."""
    got = b""
    while select.select([screen.fd], [], [], 0.2)[0]:
        got += os.read(screen.fd, 65536)
        if len(got) > 1 << 20:
            break
    screen.seen = b""
    return got


def test_the_shell_sees_a_stopped_and_continued_job(fifo: tuple[str, int]) -> None:
    """SIGTSTP sent by anybody stops us, SIGCONT continues: the job's clock stood still."""
    path, fd = fifo
    with running("--wall-time-max=30s", *speaker(HEARS, path)) as process:
        heard(fd)
        process.send_signal(signal.SIGTSTP)
        _pid, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert heard(fd) == "15"
    assert process.returncode == 55


@pytest.mark.usefixtures("no_cgroup")
def test_a_job_that_kills_its_init_helper_sets_nothing_free() -> None:
    """Its daemons come to the command, which is their sub-reaper, and end with it."""
    with Line() as line:  # standard output, which every process of the job holds
        script = "setsid sleep 60 & kill -KILL $PPID; sleep 60"
        done = subprocess.Popen([RINGFENCE, "run", "--", "sh", "-c", script], stdout=line.end)
        assert done.wait(20) == 125
        line.wait_closed()


@pytest.mark.requires("root")
@pytest.mark.requires("cgroup")
def test_a_signal_that_may_not_be_passed_on_is_said_and_the_command_runs_on() -> None:
    """SIGUSR1 does nothing to it, SIGTERM ends it after its grace."""
    with Line() as line:
        shell = "echo up; exec sleep 600"
        options = {"stdout": line.end, "stderr": subprocess.PIPE, "text": True, "preexec_fn": without_cap_kill}
        with start("run", "--user", NOBODY, "--kill-grace=200ms", "sh", "-c", shell, **options) as process:
            assert line.read() == "up" and process.stderr is not None
            process.send_signal(signal.SIGUSR1)
            assert process.stderr.readline() == "ringfence: signal 10 could not be passed on to the command: Operation not permitted\n"
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(PATIENCE) == 128 + 9
        assert "cancelled" in said and "warning: the job could not be asked to end: Operation not permitted" in said
        line.wait_closed()
        assert not leftovers(process.pid)
