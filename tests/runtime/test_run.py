# SPDX-License-Identifier: Apache-2.0
"""supervisor.run: subprocess.run's arguments with subprocess.run's meaning."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from programs import python, sh
from waiting import Line

import supervisor
from supervisor import DEVNULL, PIPE, STDOUT, JobSpec

pytestmark = pytest.mark.usefixtures("holder")
EVERY_BYTE = bytes(range(256)) * 8


def both(args: list[str], **options: Any) -> tuple[Any, Any]:
    """What subprocess.run and supervisor.run make of the same arguments: return code, stdout, stderr of each."""
    theirs = subprocess.run(args, check=False, **options)
    ours = supervisor.run(args, **options)
    return (theirs.returncode, theirs.stdout, theirs.stderr), (ours.returncode, ours.stdout, ours.stderr)


SAME: dict[str, tuple[list[str], dict[str, Any]]] = {
    "capture": (sh("echo out; echo err >&2; exit 3"), {"capture_output": True}),
    "nothing captured": (sh("exit 0"), {}),
    "binary both ways": (["cat"], {"input": EVERY_BYTE, "capture_output": True}),
    "empty input": (["cat"], {"input": b"", "capture_output": True}),
    "text": (["cat"], {"input": "gr\u00fc\u00dfe\r\nx\ry\n", "text": True, "encoding": "utf-8", "capture_output": True}),
    "universal newlines": (["printf", "a\\r\\nb"], {"universal_newlines": True, "capture_output": True}),
    "another encoding": (["cat"], {"input": "\u00fc", "encoding": "latin-1", "capture_output": True}),
    "errors": (["printf", "\\377x"], {"encoding": "utf-8", "errors": "replace", "capture_output": True}),
    "stderr into stdout": (sh("echo a; echo b >&2; echo c"), {"stdout": PIPE, "stderr": STDOUT}),
    "only stderr": (sh("echo a; echo b >&2"), {"stdout": DEVNULL, "stderr": PIPE}),
    "stdin from nowhere": (["cat"], {"stdin": DEVNULL, "stdout": PIPE}),
    "environment": (["env"], {"env": {"A": "1", "B": "", "PATH": os.environ["PATH"]}, "stdout": PIPE}),
    "working directory": (["pwd"], {"cwd": "/usr", "stdout": PIPE}),
    "a working directory as path": (["pwd"], {"cwd": Path("/usr/lib"), "stdout": PIPE}),
    "umask": (sh("umask"), {"umask": 0o027, "stdout": PIPE}),
    "a signal": (sh("kill -15 $$"), {}),
    "a path as command": ([Path("/bin/echo"), "x"], {"stdout": PIPE}),  # type: ignore[list-item]
    "bytes as arguments": ([b"/bin/echo", b"\xff"], {"stdout": PIPE}),  # type: ignore[list-item]
    "a user": (["id", "-u"], {"stdout": PIPE, "user": os.geteuid()}),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_arguments_mean_the_same_as_for_subprocess(case: str) -> None:
    """Return code, stdout and stderr, types included."""
    args, options = SAME[case]
    theirs, ours = both(args, **options)
    assert ours == theirs
    assert [type(item) for item in ours] == [type(item) for item in theirs]


def test_inherited_streams_are_the_callers_own(capfd: pytest.CaptureFixture[str]) -> None:
    """Without capture a job prints where we print; stderr may be merged into it."""
    supervisor.run(sh("echo out; echo err >&2"))
    assert capfd.readouterr() == ("out\n", "err\n")
    outcome = supervisor.run(sh("echo out; echo err >&2"), stderr=STDOUT)
    assert outcome.ok
    assert capfd.readouterr() == ("out\nerr\n", "")


def test_files_take_the_streams(tmp_path: Path) -> None:
    """File objects for all three, at their current places."""
    (tmp_path / "in").write_bytes(EVERY_BYTE)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        assert supervisor.run(sh("cat; echo problem >&2"), stdin=source, stdout=out, stderr=err).ok
    assert (tmp_path / "out").read_bytes() == EVERY_BYTE
    assert (tmp_path / "err").read_bytes() == b"problem\n"


def test_streams_may_be_the_standard_descriptors_crosswise(capfd: pytest.CaptureFixture[str]) -> None:
    """stdout=2 and stderr=1 swap the two."""
    supervisor.run(sh("echo out; echo err >&2"), stdout=2, stderr=1)
    assert capfd.readouterr() == ("err\n", "out\n")


def test_check_raises_for_everything_but_ok() -> None:
    """JobFailed carries the outcome; a good job returns it."""
    assert supervisor.run(["true"], check=True).ok
    with pytest.raises(supervisor.JobFailed) as caught:
        supervisor.run(sh("exit 4"), check=True)
    assert caught.value.outcome.exit.code == 4
    with pytest.raises(supervisor.JobFailed) as caught:
        supervisor.run(["/no/such/program"], check=True)
    assert caught.value.outcome.verdict == "start_failed"


def test_only_the_descriptors_passed_are_open_in_the_job() -> None:
    """0, 1, 2 and what pass_fds names, although ours are many."""
    with Line() as one, Line() as other:
        os.set_inheritable(other.end, True)
        code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')))"
        outcome = supervisor.run(python(code), pass_fds=[one.end], capture_output=True)
        listed = eval(outcome.stdout)  # the listing itself is open too
        assert one.end in listed and other.end not in listed
        assert set(listed) - {0, 1, 2, one.end} <= {3, 4}


def test_start_new_session_and_process_group() -> None:
    """A session or a group of its own, and neither unless asked for."""
    code = "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())"
    assert supervisor.run(python(code), capture_output=True).stdout == b"False False\n"
    assert supervisor.run(python(code), capture_output=True, process_group=0).stdout == b"False True\n"
    assert supervisor.run(python(code), capture_output=True, start_new_session=True).stdout == b"True True\n"


def test_nice_oom_score_and_affinity_are_the_jobs() -> None:
    """Read by the program itself."""
    code = "import os; print(os.nice(0), open('/proc/self/oom_score_adj').read().strip(), os.sched_getaffinity(0))"
    outcome = supervisor.run(python(code), nice=7, oom_score_adjust=500, cpu_affinity=[0], capture_output=True)
    assert outcome.stdout == b"7 500 {0}\n"


def test_no_new_privileges_is_the_jobs() -> None:
    """And only when asked for."""
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    assert supervisor.run(command, capture_output=True, no_new_privileges=True).stdout == b"NoNewPrivs:\t1\n"
    own = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("NoNewPrivs")][0]
    assert supervisor.run(command, capture_output=True).stdout.decode() == own + "\n"


def test_a_job_starts_with_default_signals_whatever_the_supervisor_does_with_its_own() -> None:
    """Nothing blocked, nothing caught; what Python ignores by itself (SIGPIPE, SIGXFSZ) is not inherited."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        outcome = supervisor.run(["cat", "/proc/self/status"], capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    found = {
        line.split(":")[0]: int(line.split()[1], 16) for line in outcome.stdout.splitlines() if line.startswith("Sig") and line[3] != "Q"
    }
    assert found["SigBlk"] == 0 and found["SigCgt"] == 0
    assert not found["SigIgn"] & (1 << 12 | 1 << 24)


def test_a_group_and_extra_groups_are_the_jobs() -> None:
    """As root; an ordinary user may name its own."""
    if os.geteuid() != 0:
        assert supervisor.run(["id", "-g"], group=os.getegid(), capture_output=True).stdout.split() == [str(os.getegid()).encode()]
        return
    outcome = supervisor.run(sh("id -u; id -g; id -G"), user=65534, group=12345, extra_groups=[7, 8], capture_output=True)
    assert outcome.stdout == b"65534\n12345\n12345 7 8\n"


# amounts


def test_fifty_megabytes_of_output_and_ten_of_input_pass_without_a_deadlock() -> None:
    """Both directions at once, exact to the byte."""
    sent = os.urandom(1 << 20) * 10
    code = (
        "import hashlib, sys, os, threading\n"
        "def out():\n  for n in range(50): sys.stdout.buffer.write(bytes([n]) * (1 << 20))\n  sys.stdout.flush()\n"
        "t = threading.Thread(target=out); t.start()\n"
        "d = hashlib.sha256(sys.stdin.buffer.read()).hexdigest(); t.join(); sys.stderr.write(d)"
    )
    outcome = supervisor.run(python(code), input=sent, capture_output=True)
    assert outcome.ok
    assert hashlib.sha256(outcome.stdout).digest() == hashlib.sha256(b"".join(bytes([n]) * (1 << 20) for n in range(50))).digest()
    assert outcome.stderr.decode() == hashlib.sha256(sent).hexdigest()
    assert outcome.usage.stdout_bytes == 50 << 20


def test_a_job_that_does_not_read_its_input_is_no_problem() -> None:
    """It leaves most of ten megabytes unread; no EPIPE reaches us."""
    outcome = supervisor.run(sh("head -c 10"), input=bytes(10 << 20), capture_output=True)
    assert (outcome.verdict, len(outcome.stdout)) == ("ok", 10)


def test_a_pipe_for_input_without_any_ends_at_once() -> None:
    """stdin=PIPE as for subprocess.run: nobody could ever write there."""
    outcome = supervisor.run(["cat"], stdin=PIPE, capture_output=True, limits={"wall_time_max": 20})
    assert (outcome.verdict, outcome.stdout) == ("ok", b""), outcome


def test_a_job_that_closes_its_output_early_runs_on() -> None:
    """The end of its streams is not its end."""
    outcome = supervisor.run(sh("echo x; exec >&- 2>&-; exit 5"), capture_output=True)
    assert (outcome.stdout, outcome.exit.code) == (b"x\n", 5)


def test_threads_with_the_smallest_stack_start_jobs() -> None:
    """32 KiB, Python's least: the child has a stack of its own."""
    code = (
        "import threading, supervisor\n"
        "assert supervisor.run(['/bin/true']).ok\n"
        "ended = []\n"
        "threading.stack_size(32768)\n"
        "threads = [threading.Thread(target=lambda: ended.append(supervisor.run(['/bin/true']).verdict)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(*ended)"
    )
    outcome = supervisor.run([sys.executable, "-c", code], capture_output=True)
    assert (outcome.verdict, outcome.stdout.split()) == ("ok", [b"ok"] * 8), outcome


# preexec callables


def test_preexec_callables_run_in_order_in_the_child() -> None:
    """Before the hooks, in the job's own process."""
    with Line() as line:

        def say(text: bytes) -> Any:
            return lambda: os.write(line.end, text + b" %d\n" % os.getpid())

        outcome = supervisor.run(sh("echo $PPID"), preexec=[say(b"one"), say(b"two")], capture_output=True)
        first, second = line.read().split(), line.read().split()
    assert outcome.ok
    assert (first[0], second[0]) == ("one", "two")
    assert first[1] == second[1] != str(os.getpid())


def test_what_a_preexec_callable_sets_the_job_has() -> None:
    """An environment of the process: its umask and its nice value."""
    outcome = supervisor.run(sh("umask"), preexec=[lambda: os.umask(0o077) and None], capture_output=True)
    assert outcome.stdout == b"0077\n"


@pytest.mark.requires("prctl")
def test_python_prctl_serves_in_a_preexec_callable() -> None:
    """no_new_privs set by the library."""
    import prctl  # type: ignore[import-not-found,unused-ignore]

    outcome = supervisor.run(["grep", "NoNewPrivs", "/proc/self/status"], preexec=[lambda: prctl.set_no_new_privs(1)], capture_output=True)
    assert outcome.stdout == b"NoNewPrivs:\t1\n"


def test_preexec_works_with_every_limit_and_stream() -> None:
    """The slow path is the fast path otherwise: input, capture, wall time."""
    outcome = supervisor.run(["cat"], preexec=[lambda: None], input=b"through", capture_output=True, limits={"wall_time_max": 20})
    assert (outcome.verdict, outcome.stdout) == ("ok", b"through")
    assert supervisor.run(["sleep", "60"], preexec=[lambda: None], limits={"wall_time_max": 0.2}).verdict == "wall_limit"


# interruptions


def test_keyboard_interrupt_kills_the_whole_tree_before_it_goes_on() -> None:
    """SIGINT while run() waits: the exception comes, and no process is left."""
    code = "import os, signal, sys\nsignal.signal(2, signal.SIG_IGN)\nos.fork()\nos.write(int(sys.argv[1]), b'ready\\n')\nwhile True: signal.pause()"
    with Line() as line:
        main = threading.get_ident()

        def interrupt() -> None:
            line.read()
            line.read()
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            supervisor.run(python(code, line.end), pass_fds=[line.end])
        thread.join()
        line.wait_closed(timeout=1)


def test_keyboard_interrupt_leaves_nothing_whenever_it_comes() -> None:
    """After every single native call of a run, the one that has just made the child too (see nothing_is_left)."""
    for at in range(1, 1000):
        calls = 0

        def interrupt(_: object, event: str, called: Any, at: int = at) -> None:
            nonlocal calls
            if event == "c_return" and called.__name__.startswith("sup_"):
                calls += 1
                if calls == at:
                    signal.raise_signal(signal.SIGINT)

        sys.setprofile(interrupt)
        try:
            supervisor.run(["true"])
        except KeyboardInterrupt:
            continue
        finally:
            sys.setprofile(None)
        assert at > 5  # all of them came before the end
        break


def test_a_signal_handler_of_the_callers_runs_while_run_waits() -> None:
    """And run() goes on to the end."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        outcome = supervisor.run(sh("kill -USR1 $1; exit 6", os.getpid()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (outcome.exit.code, heard) == (6, [signal.SIGUSR1])


# refusals

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "capture and stdout": ({"args": ["true"], "capture_output": True, "stdout": PIPE}, "capture_output"),
    "no command": ({"args": []}, "argv"),
    "an empty command": ({"args": [""]}, "argv"),
    "a NUL in an argument": ({"args": ["true", "a\0b"]}, "NUL"),
    "a NUL in the environment": ({"args": ["true"], "env": {"A": "a\0b"}}, "NUL"),
    "an equals sign in a name": ({"args": ["true"], "env": {"A=B": "c"}}, "holds '='"),
    "text without text mode": ({"args": ["true"], "input": "x"}, "input"),
    "input and stdin": ({"args": ["true"], "input": b"x", "stdin": DEVNULL}, "input"),
    "a limit nobody knows": ({"args": ["true"], "limits": {"memory_maxx": 1}}, "'memory_maxx' is not a limit; did you mean 'memory_max'?"),
    "two limits nobody knows": ({"args": ["true"], "limits": {"cpu_timemax": 1, "tasks": 1}}, "(?s)'cpu_time_max'.*'tasks' is not"),
    "options beside a specification": ({"args": JobSpec(argv=("true",)), "timeout": 1}, "timeout: a JobSpec says everything itself"),
    "a stream that is none": ({"args": ["true"], "stdout": object()}, "stdout"),
    "umask out of range": ({"args": ["true"], "umask": 0o7777}, "umask"),
    "a user nobody knows": ({"args": ["true"], "user": "nobody-of-that-name"}, "no user"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused_in_words_before_anything_starts(case: str) -> None:
    """ConfigError, which is a ValueError."""
    options, words = WRONG[case]
    with pytest.raises(supervisor.ConfigError, match=words):
        supervisor.run(**options)


def test_a_run_from_a_process_with_closed_standard_streams_works() -> None:
    """The job's pipes do not land on 0, 1 or 2 of ours."""
    code = (
        "import os\nos.close(0); os.close(1); os.close(2)\nimport supervisor, sys\n"
        "o = supervisor.run(['/bin/sh', '-c', 'cat; echo err >&2'], input=b'in', capture_output=True)\n"
        "os._exit(0 if (o.stdout, o.stderr) == (b'in', b'err\\n') else 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("sandbox", ["none", "strict"])
def test_closed_standard_streams_are_the_null_device_in_a_job_and_nothing_of_ours(sandbox: str) -> None:
    """What the library opens takes their numbers: as a job's stdin, a directory of ours would lead out of every sandbox."""
    code = (
        "import os, sys, asyncio, supervisor\n"
        "look = 'for fd in 0 1 2; do test $(readlink /proc/$$/fd/$fd) = /dev/null || exit 9; done'\n"
        "async def main():\n"
        "    for fd in (0, 1, 2): os.close(fd)\n"
        "    async with supervisor.Supervisor() as sup:\n"
        "        outcome = await sup.run(['/bin/sh', '-c', look], sandbox=sys.argv[1])\n"
        "        os._exit(0 if outcome.ok else 9)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code, sandbox], check=False).returncode == 0


@pytest.mark.parametrize("options", ["limits={'output_max': '1M'}", "stderr=supervisor.Tee(None, supervisor.PIPE)"])
def test_output_of_a_job_that_passes_through_us_reaches_nothing_of_ours_where_our_streams_are_closed(options: str) -> None:
    """A socket by which an event loop hears of signals has such a number, and every byte in it is one: a line's end is number 10."""
    code = (
        "import os, asyncio, supervisor\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "heard = []\n"
        "async def main():\n"
        "    asyncio.get_running_loop().add_signal_handler(10, lambda: heard.append(1))\n"
        "    async with supervisor.Supervisor() as sup:\n"
        f"        outcome = await sup.run(['/bin/sh', '-c', 'echo; echo >&2'], {options})\n"
        "    os._exit(0 if outcome.ok and not heard else 9)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
