# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat runexec``: runs and their results; beside the real runexec where BenchExec is installed."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import facts
import pytest
from command import ringfence, start
from programs import python, sh
from waiting import eventually

pytestmark = pytest.mark.usefixtures("holder")
SPIN = "while :; do :; done"
FORMS = {
    "starttime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?[+-]\d\d:\d\d",
    "walltime": r"\d+(\.\d+)?s",
    "cputime": r"\d+(\.\d+)?s",
    "memory": r"\d+B",
    "returnvalue": r"\d+",
    "exitsignal": r"\d+",
    "terminationreason": r"[a-z-]+",
    **dict.fromkeys(("blkio-read", "blkio-write"), r"\d+B"),
    **dict.fromkeys(("pressure-cpu-some", "pressure-io-some", "pressure-memory-some"), r"\d+(\.\d+)?s"),
}


def runexec(folder: Path, *args: object, **options: Any) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
    """The results and all the rest of one run without a container."""
    done = ringfence("compat", "runexec", "--no-container", "--output", folder / "log", *args, **options)
    return dict(line.split("=", 1) for line in done.stdout.splitlines()), done


@pytest.mark.parametrize(
    ("args", "command", "expected"),
    [
        ((), sh("exit 0"), {"returnvalue": "0"}),
        ((), sh("exit 7"), {"returnvalue": "7"}),
        ((), sh("kill -15 $$"), {"exitsignal": "15"}),
        (("--timelimit", "1"), sh(SPIN), {"exitsignal": "9", "terminationreason": "cputime"}),
        (("--walltimelimit", "1"), sh("sleep 60"), {"exitsignal": "9", "terminationreason": "walltime"}),
        (
            ("--softtimelimit", "1", "--timelimit", "20"),
            sh(f"trap 'exit 4' TERM; {SPIN}"),
            {"returnvalue": "4", "terminationreason": "cputime-soft"},
        ),
        (
            ("--softtimelimit", "1", "--timelimit", "2"),
            sh(f"trap '' TERM; {SPIN}"),
            {"exitsignal": "9", "terminationreason": "cputime-soft"},
        ),
        (("--softtimelimit", "9", "--walltimelimit", "1"), sh("sleep 60"), {"exitsignal": "9", "terminationreason": "walltime"}),
    ],
)
def test_results_say_how_a_run_ended(tmp_path: Path, args: tuple[str, ...], command: list[str], expected: dict[str, str]) -> None:
    results, done = runexec(tmp_path, *args, "--", *command)
    assert done.returncode == 0
    assert expected == {key: text for key, text in results.items() if key in ("returnvalue", "exitsignal", "terminationreason")}
    assert not [key for key, text in results.items() if not re.fullmatch(FORMS[key], text)]
    assert {"starttime", "walltime", "cputime"} <= results.keys()


def test_the_log_has_the_command_and_both_streams(tmp_path: Path) -> None:
    _, done = runexec(tmp_path / "new" / "folder", "--", *sh("echo out; echo err >&2"))
    head, dashes, body = (tmp_path / "new" / "folder" / "log").read_text().split("\n\n\n")
    assert head == "/bin/sh -c 'echo out; echo err >&2' sh"
    assert (dashes, body) == ("-" * 80, "out\nerr\n")
    assert [line.split(" - ")[1] for line in done.stderr.splitlines()] == ["INFO", "INFO"]
    assert runexec(tmp_path, "--quiet", "true")[1].stderr == ""


def test_a_log_that_is_too_long_loses_lines_in_the_middle(tmp_path: Path) -> None:
    runexec(tmp_path, "--maxOutputSize", "2kB", "--", *sh("seq 5000"))
    text = (tmp_path / "log").read_text()
    assert "SOME LINES IN THE MIDDLE WERE REMOVED" in text and text.endswith("\n4999\n5000\n")
    assert len(text) < 2500
    runexec(tmp_path, "--maxOutputSize", "100kB", "--", *sh("seq 5000"))
    assert "REMOVED" not in (tmp_path / "log").read_text()


def test_a_log_that_is_one_line_loses_its_middle_too(tmp_path: Path) -> None:
    runexec(tmp_path, "--maxOutputSize", "2kB", "--", *sh("head -c 5000000 /dev/zero"))
    assert b"SOME LINES IN THE MIDDLE WERE REMOVED" in (tmp_path / "log").read_bytes()
    assert (tmp_path / "log").stat().st_size < 100_000


def test_a_run_has_fresh_places_for_its_files_and_no_input(tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['HOME'], os.environ['TMPDIR'], os.listdir(os.environ['HOME']), repr(sys.stdin.read()), os.getcwd())"
    (tmp_path / "there").mkdir()
    runexec(tmp_path, "--dir", tmp_path / "there", "--", *python(script), input="ours")
    home, scratch, rest = (tmp_path / "log").read_text().splitlines()[-1].split(" ", 2)
    assert rest == f"[] '' {tmp_path / 'there'}"
    assert not Path(home).exists() and not Path(scratch).exists()
    runexec(tmp_path, "--input", "-", "--", *python("import sys; print(sys.stdin.read())"), input="ours")
    assert (tmp_path / "log").read_text().splitlines()[-1] == "ours"


def test_a_home_deeper_than_the_stack_does_not_cost_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dig = "import os; os.chdir(os.environ['HOME']); [(os.mkdir('d'), os.chdir('d')) for _ in range(3000)]"
    results, done = runexec(tmp_path, "--", *python(dig))
    assert results["returnvalue"] == "0" and done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_run_that_cannot_start_failed(tmp_path: Path) -> None:
    results, done = runexec(tmp_path, "/nonexistent/program")
    assert (results, done.returncode) == ({"terminationreason": "failed"}, 0)
    assert "command not found" in done.stderr


def test_an_interrupt_kills_the_run_and_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = python("import time; print('up', flush=True); time.sleep(600)")
    with start("compat", "runexec", "--no-container", "--output", log, "--", *command, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: log.exists() and log.read_text().endswith("\nup\n"))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "terminationreason=killed\nexitsignal=9\n" in out


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["true"], 2, "give --no-container"),
        (["--no-container", "--hidden-dir", "/x", "true"], 2, "--hidden-dir: runs are made without a container"),
        (["--no-container", "--network-access", "true"], 2, "--network-access"),
        (["--no-container", "--filesCountLimit", "5", "true"], 2, "--filesCountLimit"),
        (["--no-container", "--timelimit", "x", "true"], 2, "--timelimit: 'x'"),
        (["--no-container", "--require-cgroup-subsystem", "nonesuch", "true"], 1, "--require-cgroup-subsystem nonesuch cannot be enforced"),
        (["--no-container", "--dir", "/nonexistent", "true"], 1, "/nonexistent is not a directory"),
        (["--no-container", "--input", "/nonexistent", "true"], 1, "--input: /nonexistent: No such file"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path: Path, args: list[str], status: int, words: str) -> None:
    done = ringfence("compat", "runexec", *args, cwd=tmp_path)
    assert done.returncode == status and words in done.stderr and done.stdout == ""


def test_a_limit_that_the_host_cannot_hold_is_refused_by_its_option(tmp_path: Path) -> None:
    done = ringfence("compat", "runexec", "--no-container", "--cores", "0", "true", cwd=tmp_path)
    if facts.PROBES["cpuset"]():
        assert done.returncode == 1 and done.stderr.startswith("runexec: --cores cannot be enforced here: ")
    else:
        assert done.returncode == 0 and "terminationreason" not in done.stdout


@pytest.mark.requires("memory")
@pytest.mark.parametrize("limit", ["50MB"])
def test_memory_is_limited_and_told(tmp_path: Path, limit: str, holder: str) -> None:
    if holder == "helper":
        return
    results, _ = runexec(tmp_path, "--memlimit", limit, "--", *python("bytearray(256 << 20)"))
    assert results["terminationreason"] == "memory" and 25_000_000 < int(results["memory"][:-1]) < 60_000_000


@pytest.mark.requires("runexec", "root")
@pytest.mark.parametrize(
    ("args", "command"),
    [
        ([], sh("exit 0")),
        ([], sh("echo a; echo b >&2; exit 9")),
        ([], sh("kill -9 $$")),
        (["--walltimelimit", "1"], sh("sleep 60")),
        (["--timelimit", "1"], sh(SPIN)),
        (["--maxOutputSize", "1kB"], sh("seq 2000")),
        ([], ["/nonexistent/program"]),
    ],
)
def test_it_says_what_runexec_says(tmp_path: Path, args: list[str], command: list[str], holder: str) -> None:
    """Keys, ends, log and exit status of the real one; its measured values apart, and what only its cgroups tell."""
    results, ours = runexec(tmp_path, *args, "--", *command)
    words = [facts.runexec_path(), "--no-container", "--output", str(tmp_path / "theirs"), *args, "--", *command]
    real = subprocess.run(words, capture_output=True, text=True, check=False, timeout=50)
    theirs = dict(line.split("=", 1) for line in real.stdout.splitlines())
    assert ours.returncode == real.returncode
    ends = ("returnvalue", "exitsignal", "terminationreason")
    assert {key: results[key] for key in ends if key in results} == {key: theirs[key] for key in ends if key in theirs}
    shared = [key for key in theirs if key in results]
    assert shared == [key for key in results if key in theirs]
    assert {key for key in theirs if key not in results} <= {"memory", "blkio-read", "blkio-write", "cputime-cpu0", "cputime-cpu1"}
    assert not [key for key in shared if not re.fullmatch(FORMS[key], theirs[key])]
    assert (tmp_path / "log").read_text() == (tmp_path / "theirs").read_text()
