# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat isolate``: boxes, runs, meta files; beside the real isolate where it is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import facts
import pytest
from command import ringfence, start
from waiting import Line

SPIN = ["/bin/sh", "-c", "while :; do :; done"]
MEASURED = re.compile(r"^(time|time-wall|max-rss|csw-voluntary|csw-forced|cg-mem):.*\n", re.MULTILINE)


@pytest.fixture(autouse=True, params=["strict", "none"])
def confined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How programs are confined; boxes are in a state directory of the test's own, which their users can pass."""
    level = str(request.param)
    if level == "none":
        monkeypatch.setenv("RINGFENCE_COMPAT_SANDBOX", "none")
    elif reason := facts.missing("mount"):
        pytest.skip(f"requires mount: {reason}")
    with tempfile.TemporaryDirectory(prefix="ringfence-test-") as folder:  # pytest's own places are closed to other users
        Path(folder).chmod(0o755)
        monkeypatch.setenv("RINGFENCE_STATE", folder)
        yield level


@pytest.fixture
def state() -> Path:
    return Path(os.environ["RINGFENCE_STATE"])


def isolate(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return ringfence("compat", "isolate", *args, **options)


@pytest.fixture
def box() -> Path:
    """The working directory of a fresh box 0."""
    done = isolate("--init")
    assert done.returncode == 0 and done.stderr == ""
    return Path(done.stdout.strip()) / "box"


def run(*args: object, program: list[str], **options: Any) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
    """The meta file and all the rest of one run in box 0, with any number of processes."""
    done = isolate("-p", "-M", "-", *args, "--run", "--", *program, **options)
    return dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line), done


def test_a_box_is_made_used_and_taken_away(state: Path, box: Path) -> None:
    """--init prints where it is, files go in and come out, a second --init empties it, --cleanup twice is well."""
    assert box == state / "isolate" / "0" / "box"
    (box / "input").write_text("from outside")
    _, done = run("-i", "input", "-o", "/box/output", program=["/bin/cat"])
    assert (done.returncode, (box / "output").read_text()) == (0, "from outside")
    assert (box / "output").stat().st_uid == os.getuid()
    assert isolate("--init").returncode == 0 and list(box.iterdir()) == []
    assert [isolate("--cleanup").returncode for _ in range(2)] == [0, 0]
    assert not box.parent.exists()
    assert isolate("--run", "--", "/bin/true").returncode == 2


@pytest.mark.parametrize(
    ("args", "program", "status", "expected"),
    [
        ((), ["/bin/true"], 0, {"exitcode": "0"}),
        ((), ["/bin/sh", "-c", "exit 3"], 1, {"exitcode": "3", "status": "RE", "message": "Exited with error status 3"}),
        ((), ["/bin/sh", "-c", "kill -11 $$"], 1, {"exitsig": "11", "status": "SG", "message": "Caught fatal signal 11"}),
        ((), ["nonexistent"], 1, {"exitcode": "127", "status": "RE", "message": "Exited with error status 127"}),
        (("-t", "0.2"), SPIN, 1, {"status": "TO", "killed": "1", "message": "Time limit exceeded"}),
        (("-w", "0.2"), ["/bin/sleep", "60"], 1, {"status": "TO", "killed": "1", "message": "Time limit exceeded (wall clock)"}),
        (("-f", "1"), ["/bin/dd", "if=/dev/zero", "of=f", "bs=4096", "count=2"], 1, {"exitsig": "25", "status": "SG"}),
        (("-m", "65536"), ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"], 1, {"exitcode": "1", "status": "RE"}),
    ],
)
def test_the_meta_file_says_how_it_ended(
    box: Path, args: tuple[str, ...], program: list[str], status: int, expected: dict[str, str]
) -> None:
    meta, done = run(*args, program=program)
    assert done.returncode == status
    assert expected.items() <= meta.items()
    assert re.fullmatch(r"\d+\.\d{3}", meta["time"]) and re.fullmatch(r"\d+\.\d{3}", meta["time-wall"])
    assert done.stderr.splitlines()[-1].startswith(meta.get("message", "OK ("))


def test_over_the_time_but_within_the_extra_time_is_not_killed(box: Path) -> None:
    meta, done = run("-t", "0.02", "-x", "30", program=["/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
    assert (meta["status"], "killed" in meta, done.returncode) == ("TO", False, 1)
    assert float(meta["time"]) > 0.02


def test_a_single_process_unless_more_are_asked_for(box: Path) -> None:
    """isolate's default; root has a user for each box to count by, others need the pids controller."""
    done = isolate("--run", "--", "/bin/sh", "-c", "/bin/true; exit 0")
    assert (done.returncode, "Cannot fork" in done.stderr) == (1, True) or "tasks_max cannot be enforced" in done.stderr
    assert run(program=["/bin/sh", "-c", "/bin/true; exit 0"])[1].returncode == 0


def test_limits_and_environment_are_isolates_defaults(box: Path) -> None:
    _, done = run("-E", "A=1", "-E", "NOT_THERE", program=["/bin/sh", "-c", "ulimit -n; ulimit -c; ulimit -l; /usr/bin/env"])
    limits, variables = done.stdout.splitlines()[:3], done.stdout.splitlines()[3:6]
    assert limits == ["1024", "0", "0"]
    assert sorted(variables)[:2] == ["A=1", "LIBC_FATAL_STDERR_=1"] and sorted(variables)[2].startswith("PWD=")


@pytest.mark.requires("root")
def test_a_program_of_roots_runs_as_the_boxs_own_user(box: Path) -> None:
    _, done = run(program=["/usr/bin/id", "-u"])
    assert done.stdout.splitlines()[0] == "60000"
    assert box.stat().st_uid == 0


def test_a_link_in_the_box_leads_nowhere(box: Path, tmp_path: Path) -> None:
    """What a program left behind cannot make the next command read or write outside; special files go, unless kept."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    _, done = run(program=["/bin/sh", "-c", f"ln -s {victim} out; mkdir d; ln -s {tmp_path} d/up; mkfifo pipe"])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in box.rglob("*")) == ["d"]
    _, done = run("--special-files", program=["/bin/sh", "-c", f"ln -s {victim} out; mkfifo pipe"])
    assert done.returncode == 0, done.stderr
    assert (box / "out").is_symlink() and (box / "pipe").is_fifo()
    for name in ("out", "pipe"):
        meta, done = run("--special-files", "-o", name, program=["/bin/echo", "x"])
        assert (meta["status"], done.returncode) == ("XX", 2)
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--quota=1,1", "--init"), "--quota cannot be enforced here"),
        (("--syscalls=31", "--run", "--", "a"), "--syscalls cannot be enforced here"),
        (("--tty-hack", "--run", "--", "a"), "--tty-hack cannot be enforced here"),
        (("--cg", "--run", "--", "a"), "initialized without --cg"),
        (("--stdin=/etc/passwd", "--run", "--", "a"), "--stdin: '/etc/passwd' must lie in /box"),
        (("--stdout=../x", "--run", "--", "a"), "--stdout: '../x' must lie in /box"),
        (("--stdin=none", "--run", "--", "a"), "--stdin: none: No such file"),
        (("--box-id=1000", "--init"), "--box-id: 1000 is out of range"),
        (("--run", "--meta=/", "--", "a"), "is not a regular file"),
        (("--frobnicate",), "unrecognized option '--frobnicate'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(box: Path, args: tuple[str, ...], words: str) -> None:
    done = isolate("-p", *args)
    assert done.returncode == 2 and words in done.stderr and done.stdout == ""


def test_limits_alone_cannot_choose_what_is_seen(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_COMPAT_SANDBOX", "none")
    for args, words in ((["--dir=/etc"], "--dir cannot be enforced here"), (["--chdir=/"], "--chdir: '/' must lie in /box")):
        meta, done = run(*args, program=["/bin/true"])
        assert (meta["status"], done.returncode) == ("XX", 2) and words in done.stderr


@pytest.mark.parametrize("confined", ["strict"], indirect=True)
def test_a_program_sees_its_box_and_the_system_and_what_rules_show(box: Path) -> None:
    """Nothing else of the host, no network, and what it writes where it may stays."""
    given = box.parents[2] / "given"
    given.mkdir(mode=0o755)
    (given / "file").write_text("shown\n")
    rules = [f"--dir=data={given}", "--dir=scratch:tmp", "--dir=/nonexistent:maybe"]
    script = "ls /; cat /data/file; echo x >/scratch/kept; touch /data/new; tail -n +3 /proc/net/dev"
    _, done = run(*rules, program=["/bin/sh", "-c", script])
    shown = done.stdout.split("shown")[0].split()
    assert {"box", "data", "scratch", "usr", "tmp", "proc"} <= set(shown) and not {"home", "root", "srv", "var", "opt"} & set(shown)
    assert "lo:" in done.stdout and len([line for line in done.stdout.splitlines() if re.match(r" *\w+: ", line)]) == 1
    assert "/data/new" in done.stderr and not (given / "new").exists()
    _, done = run(*rules, program=["/bin/cat", "/scratch/kept"])
    assert done.stdout.startswith("x\n")


@pytest.mark.parametrize("confined", ["strict"], indirect=True)
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-D"], "--dir=box="),
        (["--dir=usr="], "--dir=usr="),
        (["--dir=x=tmpfs:fs"], ":fs cannot be enforced"),
        (["--dir=x=/tmp:noexec"], ":noexec cannot be enforced"),
        (["--dir=x=/dev:dev"], ":dev cannot be enforced"),
        (["--dir=x=/tmp:norec"], ":norec cannot be enforced"),
        (["--dir=x=/nonexistent"], "/nonexistent at /x"),
        (["--dir=proc/x=/tmp"], "must not lie in /proc"),
    ],
)
def test_a_rule_that_the_sandbox_cannot_keep_is_refused(box: Path, args: list[str], words: str) -> None:
    meta, done = run(*args, program=["/bin/true"])
    assert (meta["status"], done.returncode) == ("XX", 2) and words in done.stderr


def test_descriptors_are_inherited_when_asked(box: Path) -> None:
    with Line() as line:
        seen = []
        for option in ([], ["--inherit-fds"]):
            _, done = run(*option, program=["/bin/ls", "/proc/self/fd"], pass_fds=[line.end])
            seen.append(str(line.end) in done.stdout.split())
    assert seen == [False, True]


def test_only_one_command_uses_a_box_at_a_time(box: Path) -> None:
    """The second is refused, or with --wait goes on when the first has ended; an interrupt ends the program and is told."""
    words = ["compat", "isolate", "-p", "-M", str(box.parent / "meta"), "--run", "--", "/bin/sh", "-c", "echo up; exec /bin/sleep 600"]
    with start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "up\n"
        busy = isolate("--cleanup")
        assert busy.returncode == 2 and "in use by another process" in busy.stderr
        with start("compat", "isolate", "--wait", "--cleanup") as second:
            first.send_signal(signal.SIGTERM)
            out, err = first.communicate(timeout=20)  # the end of both streams: nobody of the tree holds them
            assert second.wait(20) == 0
    assert (first.returncode, out, err) == (1, "", "Interrupted\n")


@pytest.mark.requires("root")
def test_a_box_belongs_to_who_made_it_for(box: Path) -> None:
    isolate("--as-uid=65534", "--as-gid=65534", "--box-id=1", "--init")
    assert (box.parents[1] / "1" / "box").stat().st_uid == 65534


def test_what_tells_about_the_sandbox() -> None:
    assert isolate("--version").stdout.startswith("The process isolator of ringfence ")
    assert isolate("--check-config").returncode == 0
    root = isolate("--print-cg-root")
    assert root.returncode == 2 or Path(root.stdout.strip(), "cgroup.procs").exists()
    assert "--box-id" in isolate("--help").stdout


@pytest.mark.requires("memory", "pids")
def test_memory_of_the_whole_group(state: Path) -> None:
    isolate("--cg", "--init")
    meta, done = run("--cg", "--cg-mem=32768", program=["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"])
    assert (meta["status"], meta["exitsig"], meta["cg-oom-killed"]) == ("SG", "9", "1")
    assert 16384 < int(meta["cg-mem"]) <= 32768 + 4096
    assert done.returncode == 1


def told(text: str) -> str:
    """What was printed, without measured values and without the size of a stack, which root may not raise in every container."""
    return re.sub(r"^stack.*\n", "", MEASURED.sub("", text), flags=re.MULTILINE)


@pytest.mark.requires("isolate", "root")
@pytest.mark.parametrize(
    ("args", "program"),
    [
        ((), ["/bin/true"]),
        ((), ["/bin/sh", "-c", "exit 3"]),
        ((), ["/bin/sh", "-c", "kill -15 $$"]),
        ((), ["/bin/sh", "-c", "/bin/true"]),
        ((), ["nonexistent"]),
        (("-p",), ["/bin/sh", "-c", "/bin/true; /bin/false"]),
        (("-t0.3",), SPIN),
        (("-w0.3",), ["/bin/sleep", "60"]),
        (("-f1", "-p"), ["/bin/dd", "if=/dev/zero", "of=f", "bs=4096", "count=2"]),
        (("-EX=1", "-EY"), ["/usr/bin/env"]),
        (("-i", "nothing"), ["/bin/true"]),
        (("-s",), ["/bin/sh", "-c", "ulimit -a"]),
        (("-c", "/box", "-o", "out", "-r", "err"), ["/bin/sh", "-c", "echo a; echo b >&2"]),
    ],
)
def test_it_says_what_isolate_says(box: Path, args: tuple[str, ...], program: list[str], confined: str) -> None:
    """Exit status, streams and meta file of the real one, its measured values apart."""
    real = ["isolate", "--box-id=998"]
    try:
        subprocess.run([*real, "--init"], check=True, capture_output=True, timeout=20)
        theirs = subprocess.run([*real, "-M", "-", *args, "--run", "--", *program], capture_output=True, text=True, check=False, timeout=30)
    finally:
        subprocess.run([*real, "--cleanup"], check=True, capture_output=True, timeout=20)
    ours = isolate("-M", "-", *args, "--run", "--", *program)
    assert ours.returncode == theirs.returncode
    if ours.returncode < 2:
        assert told(ours.stdout) == told(theirs.stdout)
        keys = [{line.split(":")[0] for line in text.splitlines()} for text in (ours.stdout, theirs.stdout)]
        never_ran = {"csw-voluntary", "csw-forced"} if program == ["nonexistent"] else set()
        assert keys[1] - keys[0] <= never_ran | ({"max-rss"} if confined == "none" else never_ran and {"max-rss"})
