# SPDX-License-Identifier: Apache-2.0
"""Limits that a cgroup controller enforces: the kernel stops, slows or confines the program."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import facts
import pytest
from programs import RINGFENCE, probe, python, sh

import supervisor
from supervisor import Outcome

M = 1 << 20
SELF = "open('/sys/fs/cgroup' + open('/proc/self/cgroup').read().split('::')[1].strip() + '/..' + {file!r}).read()"


def read_own(file: str) -> list[str]:
    """A program that prints a file of the cgroup that holds its limits, one above its own (weights, which compete with other jobs: two)."""
    return python(f"print({SELF.format(file=('/../' if file.endswith('weight') else '/') + file)}, end='')")


def run(args: list[str], **limits: Any) -> Outcome:
    """Under these limits and at most 40 s of wall time."""
    return supervisor.run(args, limits={"wall_time_max": 40, **limits}, capture_output=True)


# memory


@pytest.mark.requires("memory")
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["itself", "child", "grandchild"])
def test_memory_beyond_memory_max_ends_the_job_whoever_of_it_took_it(depth: int) -> None:
    """A child's OOM kill takes the whole job along: it is never ``ok``."""
    outcome = run(probe("bomb", depth, 400), memory_max="64M")
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("memory_limit", ("memory_max",), True), outcome
    assert outcome.exit.signal == 9
    assert outcome.enforcement["memory_max"] == "cgroup memory.max"


@pytest.mark.requires("memory")
def test_memory_below_memory_max_is_no_ones_business_and_its_peak_is_told() -> None:
    """32 MiB inside 128: ok, and memory_peak lies between what it took and the limit."""
    outcome = run(probe("bomb", 0, 32), memory_max="128M")
    assert outcome.verdict == "ok", outcome
    assert outcome.usage.memory_peak_bytes is not None and 32 * M <= outcome.usage.memory_peak_bytes <= 128 * M
    assert outcome.sources["memory_peak_bytes"] == "cgroup memory.peak"


@pytest.mark.requires("memory")
def test_reading_a_file_larger_than_memory_max_is_not_memory_use(tmp_path: Path) -> None:
    """Page cache is reclaimed, not killed for."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(96):
            file.write(bytes(M))
    outcome = run(python("import sys\nf = open(sys.argv[1], 'rb')\nwhile f.read(1 << 16): pass", big), memory_max="48M")
    assert outcome.verdict == "ok", outcome


@pytest.mark.requires("memory")
def test_a_job_above_memory_high_is_slowed_and_lives() -> None:
    """It is held near the line (throttled and reclaimed) and ends only by its own will or the clock."""
    outcome = supervisor.run(probe("bomb", 0, 24), limits={"memory_high": "16M", "wall_time_max": 4})
    assert outcome.verdict in ("ok", "wall_limit"), outcome
    assert outcome.usage.memory_peak_bytes is not None and outcome.usage.memory_peak_bytes > 15 * M


@pytest.mark.requires("swap")
def test_memory_max_alone_forbids_swap() -> None:
    """Memory that a cap on memory pushes out has nowhere to go."""
    outcome = run(probe("bomb", 0, 200), memory_max="48M")
    assert outcome.verdict == "memory_limit", outcome
    assert not outcome.usage.swap_peak_bytes


@pytest.mark.requires("swap")
def test_memory_swap_max_lets_that_much_out_and_no_more() -> None:
    """48M of memory and 64M of swap hold 80M, and do not hold 200M."""
    fits = run(probe("bomb", 0, 80), memory_max="48M", memory_swap_max="64M")
    assert fits.verdict == "ok", fits
    assert fits.usage.swap_peak_bytes and fits.usage.swap_peak_bytes <= 64 * M
    bursts = run(probe("bomb", 0, 200), memory_max="48M", memory_swap_max="64M")
    assert bursts.verdict == "memory_limit", bursts


@pytest.mark.requires("memory")
def test_memory_min_and_low_are_in_the_kernel() -> None:
    """Protections read back as asked for."""
    outcome = run(
        python(f"print({SELF.format(file='/memory.min')}, {SELF.format(file='/memory.low')}, end='')"), memory_min="4M", memory_low="8M"
    )
    assert outcome.stdout.split() == [b"4194304", b"8388608"], outcome


@pytest.mark.requires("memory")
def test_a_kill_from_outside_is_no_memory_limit() -> None:
    """SIGKILL under a cap on memory, without an oom_kill in the evidence."""
    outcome = supervisor.run(sh("kill -9 $$"), limits={"memory_max": "256M"})
    assert (outcome.verdict, outcome.limits_hit) == ("signaled", ())


@pytest.mark.requires("memory")
def test_an_oom_kill_at_a_limit_that_the_job_set_for_a_part_of_itself_is_not_the_hosts() -> None:
    """A ringfence in a ringfence: the inner one's verdict is the outer one's exit code, and nothing else."""
    outcome = run([RINGFENCE, "run", "--memory-max=20M", *probe("bomb", 0, 100)], memory_max="300M")
    assert (outcome.verdict, outcome.exit.code, outcome.limits_hit, outcome.killed) == ("nonzero_exit", 124, (), False), outcome


# tasks


@pytest.mark.requires("pids")
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_job_cannot_have_more_tasks_than_tasks_max(kind: str) -> None:
    """Processes and threads count alike, the first task too; the failure it ends with is the limit's."""
    outcome = run(probe("fork", kind, 400), tasks_max=20)
    assert int(outcome.stdout) == 19, outcome
    assert (outcome.verdict, outcome.limits_hit, outcome.exit.code) == ("tasks_limit", ("tasks_max",), 3)
    assert outcome.usage.tasks_peak in (None, 20)


@pytest.mark.requires("pids")
def test_a_job_that_copes_with_refused_forks_is_ok_and_the_limit_is_named() -> None:
    """It exits 0 by itself: nobody ended it, yet ``limits_hit`` tells."""
    outcome = run(
        python("import os\nfor _ in range(9):\n  try:\n    if os.fork() == 0: os.read(0, 1)\n  except OSError: os._exit(0)"), tasks_max=4
    )
    assert (outcome.verdict, outcome.limits_hit, outcome.killed) == ("ok", ("tasks_max",), False), outcome


@pytest.mark.requires("pids")
def test_a_fork_bomb_is_bounded_and_gone_at_the_end() -> None:
    """The classic one, against the clock."""
    outcome = supervisor.run(
        sh("bomb() { bomb | bomb & }; bomb; sleep 1000"), limits={"tasks_max": 50, "wall_time_max": 1}, capture_output=True
    )
    assert outcome.verdict in ("wall_limit", "tasks_limit"), outcome
    assert outcome.usage.tasks_peak is None or outcome.usage.tasks_peak <= 50


# processors


@pytest.mark.requires("cpu")
def test_a_spinning_job_gets_no_more_than_cpu_quota() -> None:
    """Two seconds of spinning in four at 50 %: throttled, and the share is right to a fifth."""
    outcome = supervisor.run(probe("spin", 2, 1, 60), limits={"cpu_quota": "50%", "wall_time_max": 3})
    usage = outcome.usage
    assert outcome.verdict == "wall_limit", outcome
    assert usage.throttled_ns is not None and usage.throttled_ns > 0
    assert usage.cpu_ns is not None and usage.wall_ns is not None
    assert 0.35 < usage.cpu_ns / usage.wall_ns < 0.6


@pytest.mark.requires("cpu")
def test_cpu_quota_period_is_in_the_kernel() -> None:
    """A quarter of a 20 ms period."""
    assert run(read_own("cpu.max"), cpu_quota="25%", cpu_quota_period="20ms").stdout == b"5000 20000\n"


@pytest.mark.requires("cpu")
def test_cpu_weight_is_in_the_kernel() -> None:
    """Read by the job itself from the cgroup that holds its limits."""
    assert run(read_own("../cpu.weight"), cpu_weight=7).stdout == b"7\n"


@pytest.mark.requires("cpu", "processors")
def test_the_heavier_of_two_jobs_on_one_processor_gets_most_of_it() -> None:
    """900 against 100 on processor 0 for two seconds: at least four to one."""
    import asyncio

    async def both() -> list[Outcome]:
        async with supervisor.Supervisor() as sup:
            jobs = [
                sup.run(probe("spin", 1, 1, 60), limits={"cpu_weight": weight, "wall_time_max": 3}, cpu_affinity=[0])
                for weight in (900, 100)
            ]
            return list(await asyncio.gather(*jobs))

    heavy, light = asyncio.run(both())
    assert heavy.usage.cpu_ns and light.usage.cpu_ns
    assert heavy.usage.cpu_ns > 3 * light.usage.cpu_ns


@pytest.mark.requires("cpuset", "processors")
def test_allowed_cpus_confines_the_job_and_it_cannot_get_out() -> None:
    """sched_getaffinity(2) says so, and asking for the other processor is refused."""
    code = "import os\nprint(os.sched_getaffinity(0))\ntry: os.sched_setaffinity(0, {0}); print(os.sched_getaffinity(0))\nexcept OSError as e: print(e.errno)"
    outcome = run(python(code), allowed_cpus="1")
    assert outcome.stdout == b"{1}\n22\n", outcome


@pytest.mark.requires("cpuset")
def test_allowed_memory_nodes_is_in_the_kernel() -> None:
    """Node 0, which every machine has."""
    assert (
        run(
            python("print([l.split()[1] for l in open('/proc/self/status') if l.startswith('Mems_allowed_list')])"),
            allowed_memory_nodes="0",
        ).stdout
        == b"['0']\n"
    )


# disks


def _write(amount: int) -> list[str]:
    code = (
        "import os, sys, mmap\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_DIRECT)\n"
        "page = mmap.mmap(-1, 1 << 18)\nfor _ in range(int(sys.argv[2])): os.write(fd, page)\nos.unlink(sys.argv[1])"
    )
    return python(code, Path(facts.test_disk()) / f"written-{os.getpid()}", amount)


@pytest.mark.requires("disk")
def test_a_job_writes_no_faster_than_io_write_bandwidth_max() -> None:
    """4 MiB at 1 MiB a second take at least three seconds, and hardly any time without the limit."""
    started = time.monotonic()
    assert run(_write(16)).verdict == "ok"
    free = time.monotonic() - started
    outcome = run(_write(16), io_write_bandwidth_max=f"{facts.test_disk()} 1M")
    assert outcome.verdict == "ok", outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns > max(2.5e9, 1.5e9 * free)
    assert outcome.usage.io_write_bytes is not None and outcome.usage.io_write_bytes >= 4 * M


@pytest.mark.requires("disk")
def test_a_job_reads_no_faster_than_io_read_bandwidth_max() -> None:
    """The same downwards."""
    path = Path(facts.test_disk()) / f"read-{os.getpid()}"
    path.write_bytes(bytes(4 * M))
    try:
        code = (
            "import os, sys, mmap\nfd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\n"
            "page = mmap.mmap(-1, 1 << 18)\nwhile os.readv(fd, [page]): pass"
        )
        outcome = run(python(code, path), io_read_bandwidth_max=f"{facts.test_disk()} 1M")
    finally:
        path.unlink()
    assert outcome.verdict == "ok", outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns > 2.5e9
    assert outcome.usage.io_read_bytes is not None and outcome.usage.io_read_bytes >= 4 * M


@pytest.mark.requires("disk")
def test_a_job_does_no_more_operations_than_io_write_iops_max() -> None:
    """32 writes at 10 a second take about three seconds."""
    outcome = run(_write(32), io_write_iops_max=f"{facts.test_disk()} 10")
    assert outcome.verdict == "ok", outcome
    assert outcome.usage.wall_ns is not None and outcome.usage.wall_ns > 2e9


@pytest.mark.requires("io")
def test_a_path_on_no_block_device_is_refused_before_anything_starts() -> None:
    """/proc has no disk behind it."""
    with pytest.raises(supervisor.ConfigError, match="not on a block device"):
        run(["true"], io_read_bandwidth_max="/proc 1M")


# without the controllers


@pytest.mark.usefixtures("no_cgroup")
@pytest.mark.parametrize(
    "limits",
    [{"memory_max": "64M"}, {"tasks_max": 9}, {"cpu_quota": "50%"}, {"cpu_weight": 5}, {"allowed_cpus": "0"}, {"memory_high": "1M"}],
    ids=str,
)
def test_a_limit_that_nobody_here_can_enforce_refuses_the_job(limits: dict[str, Any]) -> None:
    """Nothing runs; the error names the limit and the missing piece."""
    with pytest.raises(supervisor.UnsupportedError, match=f"{next(iter(limits))} cannot be enforced here: RINGFENCE_CGROUP=none"):
        supervisor.run(["/bin/sh", "-c", "exit 9"], limits=limits)


@pytest.mark.usefixtures("no_cgroup")
def test_best_effort_memory_max_is_sampled_and_says_so() -> None:
    """The tree's resident memory is looked at, the job ended, and the mechanism named."""
    code = "import os\nheld = bytearray(200 << 20)\nheld[::4096] = b'x' * len(held[::4096])\nos.read(0, 1)"
    read_end, write_end = os.pipe()
    try:
        outcome = supervisor.run(
            python(code), limits={"memory_max": "64M", "wall_time_max": 20}, best_effort=["memory_max"], stdin=read_end
        )
    finally:
        os.close(read_end)
        os.close(write_end)
    assert (outcome.verdict, outcome.killed) == ("memory_limit", True), outcome
    assert outcome.enforcement["memory_max"].startswith("sampled")


@pytest.mark.usefixtures("no_cgroup")
def test_a_best_effort_limit_that_nobody_can_watch_lapses_with_a_warning() -> None:
    """The job runs, and the outcome says that nothing held it."""
    outcome = supervisor.run(["true"], limits={"cpu_weight": 5}, best_effort=["cpu_weight"])
    assert (outcome.verdict, outcome.enforcement["cpu_weight"]) == ("ok", "none (best effort)")
    assert len(outcome.warnings) == 1 and outcome.warnings[0].startswith("cpu_weight is not enforced")
