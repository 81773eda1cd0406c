# SPDX-License-Identifier: Apache-2.0
"""The sixteen limits of setrlimit(2): a job has them, and the kernel acts on them."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import facts
import pytest
from programs import as_nobody, probe, python

import supervisor

pytestmark = pytest.mark.usefixtures("holder")
INFINITY = -1
K, M, G = 1 << 10, 1 << 20, 1 << 30

EACH = [
    ("limit_cpu", "5:7", 0, (5, 7)),
    ("limit_fsize", "1M:2M", 1, (M, 2 * M)),
    ("limit_data", "512M", 2, (512 * M, 512 * M)),
    ("limit_stack", "1M:4M", 3, (M, 4 * M)),
    ("limit_core", "0", 4, (0, 0)),
    ("limit_rss", "64M:infinity", 5, (64 * M, INFINITY)),
    ("limit_nproc", "900:1000", 6, (900, 1000)),
    ("limit_nofile", "64:128", 7, (64, 128)),
    ("limit_memlock", "8K:64K", 8, (8 * K, 64 * K)),
    ("limit_as", "1G:2G", 9, (G, 2 * G)),
    ("limit_locks", "7", 10, (7, 7)),
    ("limit_sigpending", "100:200", 11, (100, 200)),
    ("limit_msgqueue", "1000:2000", 12, (1000, 2000)),
    ("limit_nice", "0", 13, (0, 0)),
    ("limit_rtprio", "0", 14, (0, 0)),
    ("limit_rttime", "1s:2s", 15, (1_000_000, 2_000_000)),
]


@pytest.mark.parametrize(("name", "given", "number", "expected"), EACH, ids=[row[0] for row in EACH])
def test_the_job_has_the_rlimit_it_was_given_and_no_other(name: str, given: str, number: int, expected: tuple[int, int]) -> None:
    """The program's own getrlimit(2) says so; the other fifteen are ours."""
    outcome = supervisor.run(probe("rlimits"), limits={name: given}, capture_output=True)
    assert outcome.verdict == "ok", outcome
    seen = [tuple(pair) for pair in json.loads(outcome.stdout)]
    own = [resource.getrlimit(each) for each in range(16)]
    own[number] = expected
    assert seen == own
    assert outcome.enforcement[name] == f"RLIMIT_{name.removeprefix('limit_').upper()}"


def test_all_sixteen_rlimits_hold_at_once() -> None:
    """None of them is lost among the others."""
    outcome = supervisor.run(probe("rlimits"), limits={name: given for name, given, _, _ in EACH}, capture_output=True)
    assert [tuple(pair) for pair in json.loads(outcome.stdout)] == [expected for _, _, _, expected in EACH]


def test_a_job_cannot_open_more_files_than_limit_nofile() -> None:
    """The kernel says EMFILE at exactly that number."""
    code = "import os\nn = 3\ntry:\n  while n < 99: os.open('/dev/null', 0); n += 1\nexcept OSError as e: print(n, e.errno)"
    outcome = supervisor.run(python(code), limits={"limit_nofile": 16}, capture_output=True)
    assert outcome.stdout == b"16 24\n"


def test_a_write_beyond_limit_fsize_ends_the_job_with_that_verdict(tmp_path: Path) -> None:
    """SIGXFSZ, and the file has exactly the size of the limit."""
    target = tmp_path / "file"
    outcome = supervisor.run(
        ["dd", "if=/dev/zero", f"of={target}", "bs=1000", "count=100"], limits={"limit_fsize": "10K"}, capture_output=True
    )
    assert (outcome.verdict, outcome.exit.signal, outcome.limits_hit, outcome.killed) == ("file_size_limit", 25, ("limit_fsize",), True)
    assert target.stat().st_size == 10 * K


def test_a_job_that_copes_with_limit_fsize_ends_as_it_likes(tmp_path: Path) -> None:
    """It ignores SIGXFSZ, sees EFBIG, and its exit code is its own."""
    target = tmp_path / "file"
    code = "import os\ntry:\n  while True: os.write(1, bytes(999))\nexcept OSError as e: os._exit(e.errno)"
    with target.open("wb") as file:
        outcome = supervisor.run(python(code), limits={"limit_fsize": "10000"}, stdout=file)
    assert (outcome.verdict, outcome.exit.code) == ("nonzero_exit", 27)
    assert target.stat().st_size == 10_000


def test_a_job_cannot_map_more_than_limit_as() -> None:
    """A gigabyte is refused inside 512 MiB of address space, and 1 MiB is not."""
    code = "import mmap\nmmap.mmap(-1, 1 << 20)\ntry: mmap.mmap(-1, 1 << 30)\nexcept OSError as e: print(e.errno)"
    assert supervisor.run(python(code), limits={"limit_as": "512M"}, capture_output=True).stdout == b"12\n"


def test_a_job_cannot_have_more_data_than_limit_data() -> None:
    """Private memory beyond it is refused with ENOMEM."""
    code = "import mmap\ntry: mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nexcept OSError as e: print(e.errno)"
    assert supervisor.run(python(code), limits={"limit_data": "256M"}, capture_output=True).stdout == b"12\n"


def test_a_stack_beyond_limit_stack_is_a_segmentation_fault() -> None:
    """The main thread walks down its stack by 8 MiB, which only 1 MiB is there for; with 64 MiB it arrives."""
    code = (
        "import ctypes, re\n"
        "low = [int(l.split('-')[0], 16) for l in open('/proc/self/maps') if l.rstrip().endswith('[stack]')][0]\n"
        "for at in range(low, low - (8 << 20), -4096): ctypes.c_char.from_address(at).value"
    )
    assert supervisor.run(python(code), limits={"limit_stack": "64M", "limit_core": 0}).verdict == "ok"
    outcome = supervisor.run(python(code), limits={"limit_stack": "1M", "limit_core": 0})
    assert (outcome.verdict, outcome.exit.signal) == ("signaled", 11)


@pytest.mark.requires("core")
@pytest.mark.parametrize(("limit", "dumped"), [("infinity", True), ("0", False)])
def test_limit_core_decides_whether_a_core_is_dumped(tmp_path: Path, limit: str, dumped: bool) -> None:
    """The outcome's core flag and the file in the working directory agree."""
    code = "import os; os.kill(os.getpid(), 6)"
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if dumped and hard != resource.RLIM_INFINITY:
        pytest.skip("requires core: our own hard limit forbids core dumps")
    outcome = supervisor.run(python(code), limits={"limit_core": limit}, cwd=tmp_path)
    assert (outcome.verdict, outcome.exit.signal, outcome.exit.core) == ("signaled", 6, dumped)
    assert any(tmp_path.glob("core*")) == dumped


@pytest.mark.requires("ordinary")
def test_an_ordinary_user_cannot_have_more_processes_than_limit_nproc() -> None:
    """A fork bomb meets EAGAIN long before its own ceiling."""
    command = [facts.ordinary_python(), *probe("fork", "process", 400)[1:]]
    outcome = supervisor.run(command, limits={"limit_nproc": 100, "wall_time_max": 20}, capture_output=True, **as_nobody())
    assert (outcome.verdict, outcome.exit.code) == ("nonzero_exit", 3), outcome
    assert 1 <= int(outcome.stdout) < 100


def test_limit_cpu_ends_a_spinning_process_with_sigxcpu() -> None:
    """One second of processor time, and the verdict says whose fault it was."""
    outcome = supervisor.run(probe("spin", 1, 1, 10), limits={"limit_cpu": "1:3", "limit_core": 0})
    assert (outcome.verdict, outcome.exit.signal, outcome.limits_hit, outcome.killed) == ("cpu_limit", 24, ("limit_cpu",), True)
    assert outcome.usage.cpu_ns is not None and 0.8e9 < outcome.usage.cpu_ns < 1.3e9


def test_one_value_for_limit_cpu_is_a_kill_at_once_and_the_limits_verdict() -> None:
    """Where soft and hard are the same the kernel sends SIGKILL and no SIGXCPU."""
    outcome = supervisor.run(probe("spin", 1, 1, 10), limits={"limit_cpu": 1})
    assert (outcome.verdict, outcome.exit.signal, outcome.limits_hit, outcome.killed) == ("cpu_limit", 9, ("limit_cpu",), True)


def test_the_hard_value_of_limit_cpu_kills_what_ignores_sigxcpu() -> None:
    """SIGKILL from the kernel at two seconds is still the limit's verdict, not a mere signal."""
    code = "import signal, time\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile time.process_time() < 9: pass"
    outcome = supervisor.run(python(code), limits={"limit_cpu": "1:2"})
    assert (outcome.verdict, outcome.exit.signal, outcome.limits_hit) == ("cpu_limit", 9, ("limit_cpu",))
