# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat timeout`` beside the real timeout(1): the same exit, the same words."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from command import start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import RINGFENCE, python, sh
from waiting import Line, wait_dead

pytestmark = pytest.mark.usefixtures("holder")
REAL = "timeout"
OURS = (RINGFENCE, "compat", "timeout")
#: What a command does, none of it longer than a second.
ENDS = {
    "exits": "exit 0",
    "fails": "exit 7",
    "says": "echo out; echo err >&2; exit 124",
    "kills itself": "kill -9 $$",
    "aborts": "ulimit -c 0; kill -6 $$",
    "terminates": "kill -15 $$",
    "waits": "exec sleep 1",
    "ignores": "trap '' TERM HUP INT USR1; sleep 1; exit 3",
    "obeys": "exec 2>/dev/null; trap 'exit 5' TERM HUP INT USR1; sleep 1 & wait $!; exit 6",
}
one_option = st.sampled_from(
    [
        ["-s", "KILL"],
        ["--signal=SIGHUP"],
        ["-sint"],
        ["--sig", "10"],
        ["-s", "0"],
        ["-k", "0.1"],
        ["--kill-after=.1s"],
        ["-k0"],
        ["--foreground"],
        ["--preserve-status"],
        ["--pres"],
        ["-v"],
    ]
)
durations = st.sampled_from(["0.2", ".2s", "2e-1", "0x.3p0", "0", "0.0d", "30", "1m", "inf", "1e400"])


def both(words: list[str]) -> list[tuple[int, str, str]]:
    """How ours and the real one end and what they say, side by side."""
    env = {**os.environ, "LC_ALL": "C"}
    running = [subprocess.Popen([*tool, *words], stdout=-1, stderr=-1, text=True, env=env) for tool in (OURS, (REAL,))]
    said = [process.communicate(timeout=30) for process in running]
    return [(process.returncode, *texts) for process, texts in zip(running, said, strict=True)]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(one_option, max_size=3), durations, st.sampled_from(sorted(ENDS)))
def test_it_ends_and_speaks_as_timeout_does(options: list[list[str]], duration: str, end: str) -> None:
    words = [*(word for option in options for word in option), duration, *sh(ENDS[end])]
    ours, real = both(words)
    assert ours == real


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["5"],
        ["abc", "true"],
        ["-1", "true"],
        ["--", "-1", "true"],
        ["nan", "true"],
        ["1x", "true"],
        ["1 ", "true"],
        ["1_0", "true"],
        ["0x", "true"],
        ["", "true"],
        ["-k", "x", "1", "true"],
        ["-s", "FOO", "1", "true"],
        ["-s", "32", "1", "true"],
        ["-s", "SIGSIGTERM", "1", "true"],
        ["-z", "1", "true"],
        ["--signal", "1"],
        ["--foreground=1", "1", "true"],
        ["1", "/nonexistent/program"],
        ["1", "no-such-program-anywhere"],
        ["1", ""],
        ["1x", ""],
        ["1", "/etc/passwd"],
        ["1", "/"],
    ],
)
def test_what_it_refuses_has_the_same_status(words: list[str]) -> None:
    """125 for what is wrong with the words, 126 and 127 for a command that cannot be run, each with a line that says why."""
    ours, real = both(words)
    assert (ours[0], ours[1]) == (real[0], real[1])
    assert ours[2].startswith("timeout: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("options", [[], ["-k", "0.1"], ["--foreground"]])
def test_a_signal_to_it_goes_to_the_command(number: signal.Signals, options: list[str]) -> None:
    """And the end by that signal is its own end too."""
    code = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL); os.write(int(os.sys.argv[1]), b'up\\n'); signal.pause()"
    code = code.replace("os.sys", "__import__('sys')")
    ends = []
    for tool in (OURS, (REAL,)):
        with (
            Line() as line,
            subprocess.Popen([*tool, *options, "30", *python(code, line.end)], pass_fds=[line.end], start_new_session=True) as process,
        ):
            line.release()
            assert line.read() == "up"
            process.send_signal(number)
            process.wait(20)
        ends.append(process.returncode)
    assert ends == [-number, -number] or ends[0] == ends[1]


def test_what_the_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """Where timeout would let it go on; so does what has left the process group."""
    done = subprocess.run([*OURS, "30", *sh("setsid sleep 600 & echo $!")], capture_output=True, text=True, check=True, timeout=30)
    wait_dead(int(done.stdout))


def test_the_signal_reaches_the_whole_tree(tmp_path: Path) -> None:
    """A child of the command hears of the time-out itself, also from another session."""
    child = "import signal, os; signal.pthread_sigmask(0, [15]); os.setsid(); print('up', flush=True); signal.sigwait([15]); os.write(1, b'heard')"
    script = sh("trap '' TERM; \"$@\" & wait $!", *python(child))
    done = subprocess.run([*OURS, "0.5", *script], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "up\nheard"
    foreground = subprocess.run(
        [*OURS, "-k", "0.2", "--foreground", "0.5", *script], capture_output=True, text=True, check=False, timeout=30
    )
    assert (foreground.stdout, foreground.returncode) == ("up\n", 137)


def test_help_and_version() -> None:
    for word in ("--help", "--version"):
        with start("compat", "timeout", word, stdout=subprocess.PIPE, text=True) as process:
            out, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and "timeout" in out


def test_an_unknown_tool_is_named(tmp_path: Path) -> None:
    done = subprocess.run([RINGFENCE, "compat", "timout", "1", "true"], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2 and "did you mean 'timeout'?" in done.stderr
