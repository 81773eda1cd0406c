# SPDX-License-Identifier: Apache-2.0
"""Pairs: two programs that talk to each other, each under limits of its own."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from programs import python, sh
from waiting import Line

import supervisor
from supervisor.errors import ConfigError

pytestmark = pytest.mark.usefixtures("holder")
LIMITS = {"wall_time_max": "20s"}
#: Thinks of a number and answers guesses; 3 for too many guesses, 4 for nonsense.
JUDGE = """
import sys
for _ in range(10):
    line = sys.stdin.readline()
    if not line.strip().isdigit(): sys.exit(4)
    print('low' if int(line) < 77 else 'high' if int(line) > 77 else 'right', flush=True)
    if int(line) == 77: sys.exit(0)
sys.exit(3)
"""
PLAYER = """
low, high = 0, 128
while True:
    middle = (low + high) // 2
    print(middle, flush=True)
    answer = input()
    if answer == 'right': break
    low, high = (middle + 1, high) if answer == 'low' else (low, middle)
"""


def pair(first: list[str], second: list[str], **options: Any) -> supervisor.PairOutcome:
    return supervisor.run_pair(first, second, **{"limits": LIMITS, "stderr": supervisor.DEVNULL, **options})


def test_both_talk_and_both_end_well() -> None:
    made = pair(python(JUDGE), python(PLAYER))
    assert made.ok and made.blamed is None, (made.first.summary(), made.second.summary())
    assert made.ended_first in ("first", "second")
    assert made.first.usage.cpu_ns and made.second.usage.cpu_ns


def test_a_player_that_is_cut_off_is_not_blamed() -> None:
    """The judge fails it and leaves; what the player writes then kills it by SIGPIPE."""
    made = pair(python(JUDGE), sh("while :; do echo 5; done"))
    assert (made.first.verdict, made.first.exit.code) == ("nonzero_exit", 3)
    assert (made.second.verdict, made.second.exit.signal) == ("signaled", signal.SIGPIPE)
    assert made.blamed == "first"  # whichever was reaped first: who leaves closes the pipe before it can be reaped


def test_who_closes_its_input_and_fails_later_is_blamed() -> None:
    """Though the other, which SIGPIPE takes, is reaped first."""
    leaver = """
import os, select, time
os.close(0)
reader = select.poll()
reader.register(1, 0)
reader.poll()  # until nobody reads what we write: the other is gone
time.sleep(0.2)
os._exit(7)
"""
    writer = "import os, signal\nsignal.signal(13, signal.SIG_DFL)\nwhile True: os.write(1, b'x' * 65536)"
    made = pair(python(leaver), python(writer))
    assert (made.ended_first, made.blamed) == ("second", "first")
    assert made.second.exit.signal == signal.SIGPIPE and made.first.exit.code == 7


def test_each_has_limits_of_its_own() -> None:
    made = pair(
        sh("read line; exit 0"),
        sh("while :; do :; done"),
        second_options={"limits": {"cpu_time_max": "200ms", "wall_time_max": "20s"}},
    )
    assert (made.second.verdict, made.blamed, made.ended_first) == ("cpu_limit", "second", "second")
    assert made.first.verdict == "nonzero_exit" or made.first.ok  # end of file instead of a line


def test_two_that_wait_for_each_other_meet_their_limit() -> None:
    made = pair(["cat"], ["cat"], first_options={"limits": {"wall_time_max": "300ms"}})
    assert (made.first.verdict, made.second.verdict, made.blamed, made.ended_first) == ("wall_limit", "ok", "first", "first")


def test_one_that_cannot_start_leaves_the_other_alone_with_an_end() -> None:
    made = pair(["/nonexistent/program"], ["cat"])
    assert (made.first.verdict, made.second.verdict, made.blamed, made.ended_first) == ("start_failed", "ok", "first", None)


def test_streams_beside_the_pipes_are_collected() -> None:
    made = pair(sh("echo first >&2"), sh("echo second >&2"), stderr=supervisor.PIPE, text=None)
    assert (made.first.stderr, made.second.stderr) == (b"first\n", b"second\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stdin": supervisor.DEVNULL}, "first: stdin"),
        ({"second_options": {"stdout": supervisor.PIPE}}, "second: stdout"),
        ({"capture_output": True}, "first: capture_output"),
        ({"second_options": {"input": b"x"}}, "second: input"),
        ({"limits": {"nonesuch": 1}}, "'nonesuch'"),
    ],
)
def test_what_is_connected_cannot_be_given(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        supervisor.run_pair(["true"], ["true"], **options)


def test_specifications_say_everything_themselves() -> None:
    spec = supervisor.JobSpec(argv=["true"])
    assert supervisor.run_pair(spec, spec).ok
    with pytest.raises(ConfigError, match="first: a JobSpec"):
        supervisor.run_pair(spec, spec, limits=LIMITS)
    with pytest.raises(ConfigError, match="second: stdin"):
        supervisor.run_pair(spec, supervisor.JobSpec(argv=["true"], stdin=supervisor.DEVNULL))


def test_an_interrupt_ends_both() -> None:
    """And nothing is left, which the fixture checks."""
    with Line() as line:

        def interrupt() -> None:
            line.read()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        waiting = threading.Thread(target=interrupt)
        waiting.start()
        program = python("import os, sys, time; os.write(int(sys.argv[1]), b'up\\n'); time.sleep(600)", line.end)
        with pytest.raises(KeyboardInterrupt):
            supervisor.run_pair(program, ["cat"], limits=LIMITS, first_options={"pass_fds": [line.end]})
        waiting.join(20)
        line.wait_closed()


def test_what_is_collected_of_one_is_text_where_that_is_asked() -> None:
    noisy = sh("echo päck >&2")
    pair = supervisor.run_pair(noisy, noisy, stderr=supervisor.PIPE, first_options={"encoding": "utf-8"}, second_options={"text": False})
    assert pair.first.stderr == "päck\n" and pair.second.stderr == "päck\n".encode()
