# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat isolate``: boxes, runs, meta files; beside the real isolate where it is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import facts
import pytest
from command import ringfence, start
from waiting import Line, wait_dead

SPIN = ["/bin/sh", "-c", "while :; do :; done"]
MEASURED = re.compile(r"^(time|time-wall|max-rss|csw-voluntary|csw-forced|cg-mem):.*\n", re.MULTILINE)


def python(code: str, *args: object) -> list[str]:
    """The command that runs ``code`` with an interpreter that the users of boxes can reach."""
    return [facts.ordinary_python(), "-I", "-S", "-c", code, *map(str, args)]


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own, which the users of boxes can pass."""
    folder = tmp_path_factory.mktemp("state")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    monkeypatch.setenv("RINGFENCE_STATE", str(folder))
    monkeypatch.setenv("RINGFENCE_COMPAT_SANDBOX", "none")
    return folder


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


@pytest.mark.requires("ordinary")
def test_over_the_time_but_within_the_extra_time_is_not_killed(box: Path) -> None:
    meta, done = run("-t", "0.1", "-x", "30", program=python("import time\nwhile time.process_time() < 0.4: pass"))
    assert (meta["status"], "killed" in meta, done.returncode) == ("TO", False, 1)
    assert float(meta["time"]) >= 0.4


@pytest.mark.requires("ordinary")
def test_a_single_process_unless_more_are_asked_for(box: Path) -> None:
    """isolate's default; root has a user for each box to count by, others need the pids controller."""
    done = isolate("--run", "--", *python("import os; os.fork()"))
    assert done.returncode == (1 if "BlockingIOError" in done.stderr else 2), done.stderr
    assert "BlockingIOError" in done.stderr or "tasks_max cannot be enforced" in done.stderr


@pytest.mark.requires("ordinary")
def test_limits_and_environment_are_isolates_defaults(box: Path) -> None:
    script = "import os, resource as r; print(sorted(os.environ), *(r.getrlimit(n)[0] for n in (r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_MEMLOCK)))"
    _, done = run("-E", "A=1", "-E", "NOT_THERE", program=python(script))
    variables = [name for name in ("A", "LC_CTYPE", "LIBC_FATAL_STDERR_") if name != "LC_CTYPE" or "LC_CTYPE" in done.stdout]
    assert done.stdout.splitlines()[0] == f"{variables} 1024 0 0"


@pytest.mark.requires("root")
def test_a_program_of_roots_runs_as_the_boxs_own_user(box: Path) -> None:
    _, done = run(program=["/usr/bin/id", "-u"])
    assert done.stdout.splitlines()[0] == "60000"
    assert box.stat().st_uid == 0


@pytest.mark.requires("ordinary")
def test_a_link_in_the_box_leads_nowhere(box: Path, tmp_path: Path) -> None:
    """What a program left behind cannot make the next command read or write outside; special files go, unless kept."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    run(
        program=python(
            f"import os; os.symlink({str(victim)!r}, 'out'); os.mkdir('d'); os.symlink({str(tmp_path)!r}, 'd/up'); os.mkfifo('pipe')"
        )
    )
    assert sorted(path.name for path in box.rglob("*")) == ["d"]
    _, done = run("--special-files", program=python(f"import os; os.symlink({str(victim)!r}, 'out'); os.mkfifo('pipe')"))
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
        (("--dir=/etc", "--run", "--", "a"), "--dir cannot be enforced here"),
        (("--cg", "--run", "--", "a"), "initialized without --cg"),
        (("--stdin=/etc/passwd", "--run", "--", "a"), "--stdin: '/etc/passwd' must lie in /box"),
        (("--stdout=../x", "--run", "--", "a"), "--stdout: '../x' must lie in /box"),
        (("--chdir=/", "--run", "--", "a"), "--chdir: '/' must lie in /box"),
        (("--stdin=none", "--run", "--", "a"), "--stdin: none: No such file"),
        (("--box-id=1000", "--init"), "--box-id: 1000 is out of range"),
        (("--run", "--meta=/", "--", "a"), "is not a regular file"),
        (("--frobnicate",), "unrecognized option '--frobnicate'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(box: Path, args: tuple[str, ...], words: str) -> None:
    done = isolate("-p", *args)
    assert done.returncode == 2 and words in done.stderr and done.stdout == ""


def test_without_a_sandbox_a_run_is_refused(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGFENCE_COMPAT_SANDBOX")
    meta, done = run(program=["/bin/true"])
    assert (meta["status"], done.returncode) == ("XX", 2)
    assert "RINGFENCE_COMPAT_SANDBOX=none" in done.stderr


@pytest.mark.requires("ordinary")
def test_only_one_command_uses_a_box_at_a_time(box: Path) -> None:
    """The second is refused, or with --wait goes on when the first has ended; an interrupt ends the program and is told."""
    with Line() as line:
        words = [
            "-p",
            "--inherit-fds",
            "-M",
            str(box / "meta"),
            "--run",
            "--",
            *python("import os, sys, time; os.write(int(sys.argv[1]), b'%d\\n' % os.getpid()); time.sleep(600)", line.end),
        ]
        with start("compat", "isolate", *words, pass_fds=[line.end], stderr=subprocess.PIPE, text=True) as first:
            line.release()
            program = int(line.read())
            busy = isolate("--cleanup")
            assert busy.returncode == 2 and "in use by another process" in busy.stderr
            with start("compat", "isolate", "--wait", "--cleanup") as second:
                first.send_signal(signal.SIGTERM)
                _, err = first.communicate(timeout=20)
                wait_dead(program)
                assert second.wait(20) == 0
    assert first.returncode == 1 and err == "Interrupted\n"


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


@pytest.mark.requires("memory", "pids", "ordinary")
def test_memory_of_the_whole_group(state: Path) -> None:
    isolate("--cg", "--init")
    meta, done = run("--cg", "--cg-mem=32768", program=python("bytearray(256 << 20)"))
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
def test_it_says_what_isolate_says(box: Path, args: tuple[str, ...], program: list[str]) -> None:
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
        assert keys[1] - keys[0] <= {"max-rss", *never_ran}
