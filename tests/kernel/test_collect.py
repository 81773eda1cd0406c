# SPDX-License-Identifier: Apache-2.0
"""Files out of a directory that hostile programs made, and go on changing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts import NOBODY
from waiting import PATIENCE, Line

from supervisor.errors import ConfigError
from supervisor.kernel.work_directory import WorkDirectory
from supervisor.model.transfer import TransferCaps

CAPS = TransferCaps()


@pytest.fixture
def work(tmp_path: Path) -> Iterator[WorkDirectory]:
    (tmp_path / "work").mkdir()
    directory = WorkDirectory(str(tmp_path / "work"))
    yield directory
    directory.remove()


def test_regular_files_come_out_and_nothing_else_does(work: WorkDirectory, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    here = Path(work.path)
    (here / "a").write_bytes(b"a")
    (here / "l").symlink_to(secret)
    (here / "d").symlink_to(tmp_path)
    os.mkfifo(here / "p")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "s"))
        found = work.collect("**", CAPS)
    assert {name: file.content for name, file in found.files.items()} == {"a": b"a"}
    assert dict(found.skipped) == {"l": "symbolic_link", "d": "symbolic_link", "p": "special_file", "s": "special_file"}
    with pytest.raises(KeyError, match="symbolic_link"):
        found["l"]


def test_a_link_on_the_way_is_not_followed(work: WorkDirectory, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("secret")
    Path(work.path, "out").symlink_to(tmp_path / "outside")
    assert not work.collect("out/x", CAPS).files
    with pytest.raises(ConfigError, match="cannot be placed"):
        work.put({"out/y": b"1"})
    assert not (tmp_path / "outside" / "y").exists()


@pytest.mark.requires("root")
def test_a_hard_link_to_somebody_elses_file_is_left_out(work: WorkDirectory, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    own = Path(work.path, "own")
    own.write_text("own")
    os.chown(work.path, NOBODY, NOBODY)
    os.chown(own, NOBODY, NOBODY)
    os.link(own, Path(work.path, "twin"))
    os.link(secret, Path(work.path, "stolen"))
    found = work.collect("*", CAPS)
    assert set(found.files) == {"own", "twin"} and dict(found.skipped) == {"stolen": "foreign_hard_link"}


def test_caps_on_bytes_files_depth_and_names(work: WorkDirectory) -> None:
    here = Path(work.path)
    for name, size in (("a", 10), ("b", 100), ("c", 10)):
        (here / name).write_bytes(b"x" * size)
    found = work.collect("*", TransferCaps(bytes_max=50))
    assert set(found.files) == {"a", "c"} and found.skipped == {"b": "bytes_max"} and found.complete
    found = work.collect("*", TransferCaps(files_max=2))
    assert set(found.files) == {"a", "b"} and found.skipped == {"c": "files_max"} and not found.complete
    (here / "1/2/3").mkdir(parents=True)
    (here / "1/2/3/deep").write_text("x")
    found = work.collect("**/deep", TransferCaps(depth_max=2))
    assert not found.files and not found.complete and "depth_max" in found.skipped.values()
    found = work.collect("**", TransferCaps(entries_max=2))
    assert len(found.files) <= 2 and not found.complete and "entries_max" in found.skipped.values()


def test_a_sparse_file_counts_as_large_as_it_looks_and_its_holes_stay_holes(work: WorkDirectory, tmp_path: Path) -> None:
    with open(Path(work.path, "huge"), "wb") as file:
        file.truncate(1 << 40)
    with open(Path(work.path, "holes"), "wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(16 << 20)
    found = work.collect("*", CAPS, into=tmp_path / "into")
    assert found.skipped == {"huge": "bytes_max"}
    copy = tmp_path / "into" / "holes"
    assert copy.stat().st_size == 16 << 20 and copy.stat().st_blocks * 512 < 1 << 20
    assert copy.read_bytes()[8 << 20 :][:3] == b"end"


def test_names_that_are_not_utf8(work: WorkDirectory) -> None:
    Path(os.fsdecode(os.fsencode(work.path) + b"/\xff\n")).write_bytes(b"1")
    found = work.collect("*", CAPS)
    assert found[os.fsdecode(b"\xff\n")] == b"1"
    assert found.to_dict()["files"] == [{"name": {"base64": "/wo="}, "size_bytes": 1}]


def test_a_lease_does_not_hold_us_up(work: WorkDirectory) -> None:
    """Opening a file under somebody's write lease blocks for 45 s (fcntl(2)), unless it is opened non-blocking."""
    Path(work.path, "f").write_bytes(b"1")
    code = "import fcntl, os, signal, sys\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\nfd = os.open(sys.argv[1], os.O_RDWR)\nfcntl.fcntl(fd, 1024, 1)\nos.write(int(sys.argv[2]), b'held\\n')\nsys.stdin.read()"
    with Line() as line:
        command = [sys.executable, "-c", code, f"{work.path}/f", str(line.end)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[line.end]) as holder:
            line.release()
            assert line.read() == "held"
            found = work.collect("f", CAPS)
            holder.communicate()
    assert found.skipped == {"f": "changing"}
    assert fcntl.F_SETLEASE == 1024


SWAPPER = """
import os, sys
os.chdir(sys.argv[1])
os.write(int(sys.argv[3]), b"swapping\\n")
while os.getppid() == int(sys.argv[4]):
    for name in ("f", "d"):
        os.symlink(sys.argv[2] if name == "d" else sys.argv[2] + "/x", "link")
        os.rename(name, "real"); os.rename("link", name)
        os.rename(name, "link"); os.rename("real", name)
        os.unlink("link")
"""


def test_links_swapped_in_while_we_collect_never_lead_out(work: WorkDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    here = Path(work.path)
    (here / "d").mkdir()
    (here / "d" / "x").write_text("inner")
    (here / "f").write_text("inner")
    with Line() as line:
        command = [sys.executable, "-c", SWAPPER, work.path, str(outside), str(line.end), str(os.getpid())]
        with subprocess.Popen(command, pass_fds=[line.end]) as swapper:
            line.release()
            assert line.read() == "swapping"
            taken = left_out = rounds = 0
            patience = time.monotonic() + PATIENCE
            try:
                while rounds < 2000 or (not (taken and left_out) and time.monotonic() < patience):
                    rounds += 1
                    found = work.collect(["f", "d/x", "real/x", "link/x"], CAPS)
                    taken += len(found.files)
                    left_out += len(found.skipped)
                    assert {file.content for file in found.files.values()} <= {b"inner"}
            finally:
                swapper.kill()
    assert taken and left_out, "the race was not run"


def test_what_is_placed_replaces_links_and_does_not_follow_them(work: WorkDirectory, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    Path(work.path, "f").symlink_to(target)
    work.put({"f": b"new", "a/b/c": b"deep"})
    assert target.read_text() == "kept" and Path(work.path, "f").read_text() == "new"
    assert Path(work.path, "a/b/c").read_text() == "deep"
    assert sorted(os.listdir(work.path)) == ["a", "f"]


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", "a\0b", "x" * 300, "d/"])
def test_names_that_lead_out_are_refused_before_anything_is_written(work: WorkDirectory, name: str) -> None:
    with pytest.raises(ConfigError, match="files:"):
        work.put({"fine": b"1", name: b"2"})
    assert os.listdir(work.path) == []


@pytest.mark.requires("root")
def test_an_ordinary_users_directory_is_removed_with_all_it_holds_and_whatever_modes_it_has() -> None:
    os.seteuid(65534)
    try:
        work = WorkDirectory()
        deep = Path(work.path) / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        deep.chmod(0)
        deep.parent.chmod(0o500)
        assert work.remove() == ""
        assert not os.path.exists(work.path)
    finally:
        os.seteuid(0)


@pytest.mark.requires("root")
def test_a_directory_that_may_be_listed_and_not_searched_is_left_out_by_name() -> None:
    os.seteuid(65534)
    try:
        work = WorkDirectory()
        (Path(work.path) / "fine").touch()
        closed = Path(work.path) / "closed"
        closed.mkdir()
        (closed / "file").touch()
        closed.chmod(0o400)
        found = work.collect("**", CAPS)
        assert (list(found.files), dict(found.skipped), found.complete) == (["fine"], {"closed": "unreadable"}, False)
        assert not work.look(CAPS).complete
        assert work.remove() == ""
    finally:
        os.seteuid(0)


class _Failing:
    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self

    def __next__(self) -> os.DirEntry[str]:
        raise OSError(errno.EIO, "bad disk")


def test_a_directory_whose_reading_fails_half_way_is_left_out_by_name(work: WorkDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a failing disk or a FUSE file system does, and /proc for a process of somebody else's."""
    (Path(work.path) / "bad").mkdir()
    (Path(work.path) / "good").touch()
    scandir = os.scandir

    @contextlib.contextmanager
    def failing(fd: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(fd) as entries:
            yield entries if os.readlink(f"/proc/self/fd/{fd}") == work.path else _Failing()

    monkeypatch.setattr(os, "scandir", failing)
    found = work.collect("**", CAPS)
    assert (list(found.files), dict(found.skipped), found.complete) == (["good"], {"bad": "unreadable"}, False)
