# SPDX-License-Identifier: Apache-2.0
"""Output captured to files: byte-exact over any number of them, bounded, and nobody is held up by a file that takes no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import python, sh

import supervisor
from supervisor import PIPE, STDOUT, Capture, ConfigError

SEQ = b"".join(b"%d\n" % number for number in range(1, 100_001))


def files(path: Path) -> list[bytes]:
    """What the capture wrote, the oldest file first."""
    names = [path.with_name(f"{path.name}.{number}") for number in range(1, 1000)]
    old = [name.read_bytes() for name in names if name.exists()]
    return [*reversed(old), path.read_bytes()]


@pytest.mark.usefixtures("holder")
def test_a_file_gets_every_byte_and_they_are_counted(tmp_path: Path) -> None:
    data = os.urandom(5_000_001)
    outcome = supervisor.run(["cat"], input=data, stdout=Capture(tmp_path / "out"))
    assert outcome.ok and (tmp_path / "out").read_bytes() == data
    assert outcome.usage.stdout_bytes == len(data) and outcome.stdout is None and outcome.warnings == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 300_000),
    most=st.integers(4096, 150_000),
    lines=st.booleans(),
    seed=st.integers(0, 2**32),
    alphabet=st.sampled_from([b"x", b"x\n", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"]),
)
def test_rotated_files_joined_are_the_output_and_none_is_too_large(
    tmp_path: Path, size: int, most: int, lines: bool, seed: int, alphabet: bytes
) -> None:
    import random

    data = bytes(random.Random(seed).choices(alphabet, k=size))
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    outcome = supervisor.run(["cat"], input=data, stdout=Capture(tmp_path / "out", max_bytes=most, keep=999, lines=lines))
    found = files(tmp_path / "out")
    assert outcome.ok and b"".join(found) == data
    assert all(found) or len(found) == 1, "no file is begun before there is something for it"
    for text in found[:-1]:
        if lines and b"\n" in text[most - min(65536, most // 4) :]:
            assert text.endswith(b"\n") and len(text) <= most
        else:
            assert len(text) == most


def test_the_oldest_file_goes_over_the_edge(tmp_path: Path) -> None:
    supervisor.run(["seq", "100000"], stdout=Capture(tmp_path / "out", max_bytes=100_000, keep=2))
    assert sorted(os.listdir(tmp_path)) == ["out", "out.1", "out.2"]
    assert [len(text) for text in files(tmp_path / "out")] == [100_000, 100_000, len(SEQ) % 100_000]
    assert SEQ.endswith(b"".join(files(tmp_path / "out")))
    supervisor.run(["seq", "100000"], stdout=Capture(tmp_path / "none", max_bytes=100_000, keep=0))
    assert (tmp_path / "none").read_bytes() == SEQ[-(len(SEQ) % 100_000) :] and not (tmp_path / "none.1").exists()


def test_append_goes_on_where_the_file_ended_and_the_bound_holds_over_runs(tmp_path: Path) -> None:
    for _ in range(3):
        supervisor.run(python("print('x' * 2999)"), stdout=Capture(tmp_path / "out", max_bytes=4096, keep=9, append=True))
    assert [len(text) for text in files(tmp_path / "out")] == [4096, 4096, 9000 - 2 * 4096]
    supervisor.run(["true"], stdout=Capture(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"", "without append a file begins anew"


def test_a_new_file_has_the_mode_of_the_full_one(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    os.chmod(tmp_path / "out", 0o640)
    supervisor.run(["seq", "10000"], stdout=Capture(tmp_path / "out", max_bytes=20_000))
    assert {name.stat().st_mode & 0o777 for name in tmp_path.iterdir()} == {0o640} and (tmp_path / "out.1").exists()


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("cap", [9999, 10_000, 10_001, 70_000])
def test_the_output_cap_is_exact_in_the_file(tmp_path: Path, cap: int) -> None:
    outcome = supervisor.run(
        ["head", "-c", "10000", "/dev/zero"] if cap < 70_000 else ["yes"], stdout=Capture(tmp_path / "out"), limits={"output_max": cap}
    )
    assert outcome.verdict == ("output_limit" if cap in (9999, 70_000) else "ok")
    assert (tmp_path / "out").stat().st_size == min(cap, 10_000 if cap < 70_000 else cap)
    assert outcome.enforcement["output_max"] == "bytes counted on the way"


def test_both_streams_into_one_file_keep_their_order(tmp_path: Path) -> None:
    code = "import os\nfor n in range(200): os.write(1 + n % 2, b'%03d' % n)"
    expected = b"".join(b"%03d" % n for n in range(200))
    for stderr in (STDOUT, Capture(tmp_path / "out")):
        supervisor.run(python(code), stdout=Capture(tmp_path / "out"), stderr=stderr)
        assert (tmp_path / "out").read_bytes() == expected
    supervisor.run(sh("echo a; echo b >&2"), stdout=Capture(tmp_path / "a"), stderr=Capture(tmp_path / "b"))
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"a\n", b"b\n")


def test_what_cannot_be_a_capture_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path, words in (("fifo", "not a regular file"), ("link", "symbolic link"), ("", "not a regular file"), ("no/such", "No such file")):
        target = f"{tmp_path}/{path}" if path else "/dev/null"
        with pytest.raises(ConfigError, match=words) as caught:
            supervisor.run(["touch", str(tmp_path / "ran")], stdout=Capture(target))
        assert target in str(caught.value)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "elsewhere").exists()


async def test_two_jobs_cannot_write_one_file_and_the_next_one_may(tmp_path: Path) -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], stdout=Capture(tmp_path / "out"))
        with pytest.raises(ConfigError, match="another job's output goes there already"):
            await sup.start(["true"], stdout=Capture(tmp_path / "out"))
        await job.kill()
        for _ in range(50):
            assert (await sup.run(["echo", "x"], stdout=Capture(tmp_path / "out"))).ok
    assert (tmp_path / "out").read_bytes() == b"x\n"


@pytest.mark.parametrize("keep", [0, 1])
async def test_a_link_put_in_the_full_files_place_is_not_followed(tmp_path: Path, keep: int) -> None:
    """Whoever owns the directory cannot make us write elsewhere."""
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"untouched")
    code = "import os, sys\nos.write(1, b'x' * 4096)\nprint('go', file=sys.stderr, flush=True)\nsys.stdin.read(1)\nos.write(1, b'y' * 10)"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(code), stdin=PIPE, stdout=Capture(out, max_bytes=4096, keep=keep), stderr=PIPE)
        assert job.stdin is not None and job.stderr is not None
        assert await job.stderr.readline() == b"go\n"
        out.unlink()
        out.symlink_to(victim)
        job.stdin.write(b"!")
        outcome = await job.wait()
    assert outcome.ok and outcome.usage.stdout_bytes == 4106 and victim.read_bytes() == b"untouched"
    assert out.read_bytes() == b"y" * 10 and not out.is_symlink()


FULL = """
import asyncio, os, sys
import supervisor
from supervisor import Capture

async def main():
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["head", "-c", "3000000", "/dev/zero"], stdout=Capture(sys.argv[1] + "/out"))
        errors = [event.message async for event in job.events() if event.kind == "error"]
        outcome = await job.wait()
    size = os.path.getsize(sys.argv[1] + "/out")
    assert outcome.ok and outcome.usage.stdout_bytes == 3000000, outcome
    assert outcome.warnings == (f"stdout: {3000000 - size} bytes are lost, {sys.argv[1]}/out: No space left on device",), outcome.warnings
    assert errors == [f"stdout: output is being lost, {sys.argv[1]}/out: No space left on device"], errors
    assert 900000 < size <= 1048576, size
    os.unlink(sys.argv[1] + "/out")
    outcome = supervisor.run(["head", "-c", "500000", "/dev/zero"], stdout=Capture(sys.argv[1] + "/out", max_bytes=300000))
    assert outcome.ok and not outcome.warnings

asyncio.run(main())
"""


#: A full disk on which somebody makes room while the job writes on.
MADE_ROOM = """
import asyncio, os, sys
import supervisor
from supervisor import Capture

SAYS = "import sys, time\\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)"

async def main():
    ballast, out = sys.argv[1] + "/ballast", sys.argv[1] + "/out"
    try:
        with open(ballast, "wb", buffering=0) as file:
            while True: file.write(bytes(4096))
    except OSError:
        pass
    async with supervisor.Supervisor() as sup:
        job = await sup.start([sys.executable, "-c", SAYS], stdout=Capture(out))
        async for event in job.events():
            if event.kind == "error":
                break
        os.unlink(ballast)
        while not os.path.getsize(out):
            await asyncio.sleep(0.01)
        outcome = await job.kill()
    size = os.path.getsize(out)
    assert size % 100 == 0 and outcome.warnings == (
        f"stdout: {outcome.usage.stdout_bytes - size} bytes are lost, {out}: No space left on device",), outcome.warnings

asyncio.run(main())
"""


@pytest.mark.requires("mount")
@pytest.mark.parametrize("program", [FULL, MADE_ROOM], ids=["full", "made room"])
def test_a_full_disk_holds_nobody_up_and_every_lost_byte_is_counted(tmp_path: Path, program: str) -> None:
    """On a file system of one megabyte, mounted in a namespace of its own."""
    script = 'mount -t tmpfs -o size=1M tmpfs "$1" && shift && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path)]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "RINGFENCE_CGROUP": "none"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


async def test_a_next_file_that_cannot_be_made_is_told_and_the_bound_holds(tmp_path: Path) -> None:
    """The directory is gone."""
    folder = tmp_path / "logs"
    folder.mkdir()
    code = "import os, sys\nos.write(1, b'x' * 4096)\nprint('go', file=sys.stderr, flush=True)\nsys.stdin.read(1)\nos.write(1, b'y' * 10)"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(code), stdin=PIPE, stdout=Capture(folder / "out", max_bytes=4096), stderr=PIPE)
        events = job.events()
        assert job.stdin is not None and job.stderr is not None
        assert await job.stderr.readline() == b"go\n"
        (folder / "out").unlink()
        folder.rmdir()
        job.stdin.write(b"!")
        outcome = await job.wait()
    assert outcome.ok and outcome.warnings == (f"stdout: 10 bytes are lost, {folder}/out: No such file or directory",)
    assert [event.message for event in [event async for event in events] if isinstance(event, supervisor.Error)] == [
        f"stdout: output is being lost, {folder}/out: No such file or directory"
    ]


def test_a_file_size_limit_of_our_own_is_met_like_a_full_disk(tmp_path: Path) -> None:
    code = (
        "import resource, sys, supervisor\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "made = supervisor.run(['head', '-c', '200000', '/dev/zero'], stdout=supervisor.Capture(sys.argv[1]))\n"
        "print(made.verdict, made.warnings)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.startswith("ok") and "150000 bytes are lost" in done.stdout and "File too large" in done.stdout
    assert (tmp_path / "out").stat().st_size == 50_000


def test_memory_stays_flat_while_much_is_captured(tmp_path: Path) -> None:
    code = (
        "import os, supervisor, sys\n"
        "def kib(): return int(open('/proc/self/statm').read().split()[1]) * 4\n"
        "supervisor.run(['head', '-c', '1000000', '/dev/zero'], stdout=supervisor.Capture(sys.argv[1], max_bytes='1M'))\n"
        "before = kib()\n"
        "made = supervisor.run(['head', '-c', '256M', '/dev/zero'], stdout=supervisor.Capture(sys.argv[1], max_bytes='1M'))\n"
        "print(made.usage.stdout_bytes, kib() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True, timeout=50)
    size, grown = map(int, done.stdout.split())
    assert size == 256 << 20 and grown < 1024


async def test_a_job_that_cannot_be_started_leaves_nothing_open(tmp_path: Path) -> None:
    async with supervisor.Supervisor() as sup:
        outcome = await sup.run(["/no/such/program"], stdout=Capture(tmp_path / "out"))
        assert outcome.verdict == "start_failed"
        assert (await sup.run(["echo", "x"], stdout=Capture(tmp_path / "out"))).ok
