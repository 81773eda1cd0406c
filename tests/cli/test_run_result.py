# SPDX-License-Identifier: Apache-2.0
"""``--result`` and standard output: the outcome arrives whole, or the failure is told and nothing half-done stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import facts
import pytest
from command import run, start
from programs import RINGFENCE, python, sh
from waiting import PATIENCE, eventually, wait_dead


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_result_is_one_json_document_in_a_file(tmp_path: Path) -> None:
    """The command's own output stays its own, the status too; nothing else is in the folder."""
    done = run("--result", tmp_path / "result", *sh("echo out; exit 3"))
    assert (done.returncode, done.stdout) == (3, "out\n")
    text = (tmp_path / "result").read_text()
    assert text.endswith("}\n") and text.count("\n") == 1
    made = json.loads(text)
    assert made["verdict"] == "nonzero_exit" and "stdout" not in made
    assert names(tmp_path) == ["result"]


def test_an_older_result_is_replaced_in_one_step(tmp_path: Path) -> None:
    """By rename, through a link to where it points."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert run("--result", tmp_path / "link", "true").returncode == 0
    assert json.loads((tmp_path / "real").read_text())["verdict"] == "ok"
    assert (tmp_path / "link").is_symlink() and names(tmp_path) == ["link", "real"]


def test_a_dash_is_standard_output() -> None:
    """After the command's own output."""
    done = run("--result=-", "echo", "x")
    first, second = done.stdout.splitlines()
    assert first == "x" and json.loads(second)["verdict"] == "ok"


def test_json_and_result_can_be_had_at_once(tmp_path: Path) -> None:
    """The streams are in the one and not in the other."""
    done = run("--json", "--result", tmp_path / "result", "echo", "x")
    assert json.loads(done.stdout)["stdout"] == "x\n"
    assert json.loads((tmp_path / "result").read_text())["verdict"] == "ok"


@pytest.mark.parametrize("kind", ["fifo", "directory", "in no folder", "below a file", "socket"])
def test_a_place_that_cannot_keep_a_result_is_refused_before_the_command_runs(kind: str, tmp_path: Path) -> None:
    """125, one line, no hang on a FIFO nobody reads, and the command never ran."""
    import socket

    place = tmp_path / "place"
    server = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    elif kind == "in no folder":
        place = tmp_path / "gone" / "result"
    elif kind == "below a file":
        place = Path("/etc/passwd/result")
    else:
        server.bind(str(place))
    with server:
        done = run("--result", place, "touch", tmp_path / "ran")
    assert done.returncode == 125 and str(place) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.requires("user")
def test_a_folder_that_may_not_be_written_is_refused_before_the_command_runs(tmp_path: Path) -> None:
    """Root may write everywhere, so this is an ordinary user's test."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    done = run("--result", folder / "result", "touch", tmp_path / "ran")
    assert done.returncode == 125 and "Permission denied" in done.stderr and not (tmp_path / "ran").exists()


def test_a_device_is_written_directly() -> None:
    """/dev/null takes a result, /dev/full says why it does not."""
    assert run("--result=/dev/null", "true").returncode == 0
    done = run("--result=/dev/full", "true")
    assert done.returncode == 125
    assert "No space left on device" in done.stderr


@pytest.mark.requires("mount")
def test_a_full_disk_is_told_and_leaves_the_old_result_alone(tmp_path: Path) -> None:
    """A file system of 64 KiB, full but for the old result."""
    script = (
        'mount -t tmpfs -o size=64k none "$1" && cd "$1" && echo old > result && { cat /dev/zero > filler 2>/dev/null; true; } &&'
        ' "$2" run --result=result true; echo "status $?"; ls -A; cat result'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script, "sh", str(tmp_path), RINGFENCE],
        capture_output=True, text=True, check=False, env={**os.environ, "RINGFENCE_CGROUP": "none"},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["status 125", "filler", "result", "old"], done
    assert "No space left on device" in done.stderr


def test_a_killed_ringfence_leaves_no_half_result(tmp_path: Path) -> None:
    """The old one is there whole, and nothing beside it."""
    (tmp_path / "result").write_text("old")
    read_end, write_end = os.pipe()
    with start("run", "--result", tmp_path / "result", *sh("echo ready; exec sleep 60"), stdout=write_end) as process:
        os.close(write_end)
        assert os.read(read_end, 100) == b"ready\n"
        process.kill()
    os.close(read_end)
    assert (tmp_path / "result").read_text() == "old" and names(tmp_path) == ["result"]
    import supervisor

    supervisor.run(["true"])  # sweeps what the killed one left in the cgroup tree


# standard output that is not what it should be


def closed(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", script, "sh", RINGFENCE], capture_output=True, text=True, check=False)


def test_closed_standard_streams_do_not_confuse_anybody(tmp_path: Path) -> None:
    """The command gets /dev/null in their place, and the result file is not its output."""
    result = tmp_path / "result"
    done = closed(f'"$1" run --result={result} sh -c "echo out; echo err >&2; cat" <&- >&- 2>&-')
    assert done.returncode == 0
    assert json.loads(result.read_text())["verdict"] == "ok"


def test_an_outcome_for_a_closed_standard_output_is_refused() -> None:
    """--json and --result=- have nowhere to go, so nothing runs."""
    for option in ("--json", "--result=-"):
        done = closed(f'"$1" run {option} sh -c "echo ran >&2" >&-')
        assert done.returncode == 125
        assert done.stderr == "ringfence: standard output is closed, so the outcome cannot be printed\n"


def test_a_full_standard_output_is_told() -> None:
    """/dev/full under --json: 125, not a traceback and not silence."""
    done = closed('"$1" run --json echo x > /dev/full')
    assert done.returncode == 125
    assert "standard output: No space left on device" in done.stderr


# relaying


def test_a_reader_that_leaves_ends_a_relayed_command() -> None:
    """| head: the command gets SIGPIPE or its error, and nothing hangs."""
    done = closed('"$1" run --output-max=1G yes | head -n 2')
    assert done.stdout == "y\ny\n"


def test_a_slow_reader_gets_every_byte() -> None:
    """Relayed output waits for the reader, also after the command's end."""
    code = "import os, sys\nfor n in range(300): os.write(1, b'%07d\\n' % n * 1000)"
    with start("run", "--output-max=1G", sys.executable, "-c", code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        got = []
        while piece := process.stdout.read(65536):
            got.append(piece)
            os.sched_yield()
    assert process.returncode == 0
    assert b"".join(got) == b"".join(b"%07d\n" % n * 1000 for n in range(300))


@pytest.mark.requires("root", "ordinary")
def test_a_stuck_reader_of_a_pipe_that_cannot_be_opened_anew_does_not_stop_the_clock() -> None:
    """Root's pipe under an ordinary user's ringfence: the command is ended at its wall time while nobody reads."""
    command = [facts.ordinary_python(), "-m", "supervisor", "run", "--output-max=1G", "--wall-time-max=500ms"]
    command += sh("echo $$ >&2; exec yes")
    options: dict[str, Any] = {
        "cwd": "/",
        "env": facts.ordinary_environment(),
        "user": facts.NOBODY,
        "group": facts.NOBODY,
        "extra_groups": [],
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        assert process.stderr is not None
        wait_dead(int(process.stderr.readline()))
        _out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 124 and b"wall_limit" in err


def test_a_ringfence_that_only_waits_for_a_stuck_reader_ends_when_it_is_told_to() -> None:
    """The command is over, its status known, and what the reader did not take is dropped."""
    script = sh("echo $$ >&2; head -c 100000 /dev/zero; exit 3")
    with start("run", "--output-max=1G", *script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        wait_dead(int(process.stderr.readline()))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: not children.read_text())
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE) == 3


def test_relayed_output_that_cannot_be_written_is_told() -> None:
    """/dev/full: 125 and one line, although the command itself ended well."""
    done = closed('"$1" run --output-max=1M echo x > /dev/full')
    assert done.returncode == 125
    assert done.stderr == "ringfence: the command's output could not be written: No space left on device\n"


def test_relaying_does_not_change_the_callers_descriptors() -> None:
    """O_NONBLOCK on a shared pipe would break every other writer: it is not set."""
    read_end, write_end = os.pipe()
    with start("run", "--output-max=1M", "echo", "x", stdout=write_end):
        pass
    assert os.get_blocking(write_end)
    assert os.read(read_end, 10) == b"x\n"
    os.close(read_end)
    os.close(write_end)


def test_a_relay_into_a_socket_works() -> None:
    """Standard output may be a socket."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        with start("run", "--output-max=1M", *sh("for n in 1 2 3; do echo $n; done"), stdout=theirs.fileno()):
            pass
        theirs.close()
        got = b""
        while piece := ours.recv(100):
            got += piece
    assert got == b"1\n2\n3\n"


def test_appending_standard_output_stays_appending(tmp_path: Path) -> None:
    """>> keeps what was there."""
    (tmp_path / "log").write_text("before\n")
    closed(f'"$1" run --output-max=1M echo after >> {tmp_path}/log')
    assert (tmp_path / "log").read_text() == "before\nafter\n"


LEAVES_IT_NON_BLOCKING = (
    "import fcntl, os\n"
    "fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK | os.O_WRONLY)\n"
    "try:\n  while True: os.write(1, b'\\n' * 4096)\nexcept BlockingIOError: pass"
)


def test_a_command_that_leaves_our_standard_output_non_blocking_and_full_costs_nothing() -> None:
    """The outcome waits for the reader, as it would have without that."""
    with start("run", "--result", "-", *python(LEAVES_IT_NON_BLOCKING), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert json.loads(process.stdout.read())["verdict"] == "ok"
    assert process.returncode == 0
