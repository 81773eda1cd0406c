# SPDX-License-Identifier: Apache-2.0
"""Usage: numbers that agree with what the program measured itself, and unknown is None, never 0."""

from __future__ import annotations

import asyncio
import time

import pytest
from programs import probe, python, sh
from waiting import SLOW

import supervisor

MS = 10**6
#: What a start and an end cost that no program can measure of itself: exec, the loader, exit.
UNSEEN = 2 * MS


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_processor_time_is_what_the_program_measured_itself(seconds: float) -> None:
    """Within 1 % or 2 ms (beside the program's start, which it cannot see)."""
    code = (
        "import os, sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\n"
        "os.write(1, str(time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID)).encode())\nos._exit(0)"
    )
    outcome = supervisor.run(python(code, seconds), capture_output=True)
    own, seen = int(outcome.stdout), outcome.usage.cpu_ns
    assert seen is not None
    slow = SLOW if SLOW == 1 else max(SLOW, own / (50 * MS))  # an emulated machine at a bad hour: its own start alone took that long
    assert -max(UNSEEN, own // 100) <= seen - own <= max(UNSEEN, own // 100) + 5 * MS * slow, (own, seen)


@pytest.mark.usefixtures("holder")
def test_processor_time_is_the_whole_trees() -> None:
    """Children that the job waited for, and one that it did not."""
    outcome = supervisor.run(probe("spin", 3, 1, 0.2))
    assert outcome.usage.cpu_ns is not None and 600 * MS <= outcome.usage.cpu_ns < (600 + 300 * SLOW) * MS
    outcome = supervisor.run(
        python("import os, time\nif os.fork() == 0:\n  while time.process_time() < 0.3: pass\n  os._exit(0)\nos.wait()")
    )
    assert outcome.usage.cpu_ns is not None and outcome.usage.cpu_ns >= 300 * MS


@pytest.mark.usefixtures("holder")
def test_user_and_system_time_add_up() -> None:
    """To the total, to the microseconds that the kernel rounds away."""
    usage = supervisor.run(sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat /proc/meminfo > /dev/null")).usage
    assert usage.cpu_ns is not None and usage.cpu_user_ns is not None and usage.cpu_system_ns is not None
    assert abs(usage.cpu_ns - usage.cpu_user_ns - usage.cpu_system_ns) <= 10_000


@pytest.mark.usefixtures("holder")
def test_wall_time_is_what_the_program_measured_itself() -> None:
    """From exec to exit: between its own first and last look and our call, and within a few milliseconds of the first."""
    code = "import time, os\nt = time.monotonic_ns()\nwhile time.monotonic_ns() - t < 300_000_000: time.sleep(0.01)\nos.write(1, b'%d %d' % (t, time.monotonic_ns()))\nos._exit(0)"
    before = time.monotonic_ns()
    outcome = supervisor.run(python(code), capture_output=True)
    after = time.monotonic_ns()
    first, last = map(int, outcome.stdout.split())
    usage = outcome.usage
    assert usage.wall_ns is not None and usage.start_latency_ns is not None
    assert last - first <= usage.wall_ns <= after - before
    assert usage.start_latency_ns > 0
    assert usage.start_latency_ns + usage.wall_ns <= after - before


@pytest.mark.usefixtures("holder")
def test_wall_time_of_a_sleep_is_its_length() -> None:
    """A second of sleep, to what a start and an end take on a busy host."""
    outcome = supervisor.run(["sleep", "1"])
    assert outcome.usage.wall_ns is not None and 0 <= outcome.usage.wall_ns - 1000 * MS < 100 * MS * SLOW


@pytest.mark.usefixtures("holder")
def test_the_supervisors_own_work_is_not_charged_to_the_job() -> None:
    """A supervisor with 200 MiB of memory and a second of work behind it runs a job that has neither."""
    held = bytearray(200 << 20)
    held[::4096] = b"x" * len(held[::4096])
    outcome = supervisor.run(["true"])
    assert outcome.usage.cpu_ns is not None and outcome.usage.cpu_ns < 50 * MS * SLOW
    assert outcome.usage.rss_peak_main_bytes is None or outcome.usage.rss_peak_main_bytes < 100 << 20
    assert len(held)


@pytest.mark.usefixtures("holder")
def test_the_peak_of_the_main_process_is_told_when_it_is_its_own() -> None:
    """A program larger than its supervisor: its own peak, with its source."""
    outcome = supervisor.run(python("held = bytearray(600 << 20); held[::4096] = b'x' * len(held[::4096])"))
    assert outcome.usage.rss_peak_main_bytes is not None and 600 << 20 <= outcome.usage.rss_peak_main_bytes < 700 << 20
    assert outcome.sources["rss_peak_main_bytes"] == "rusage ru_maxrss"


@pytest.mark.usefixtures("no_cgroup")
def test_what_nobody_measured_is_none_and_has_no_source() -> None:
    """Without cgroups and without capture: memory, tasks, I/O, output."""
    outcome = supervisor.run(["true"])
    for name in ("memory_peak_bytes", "swap_peak_bytes", "tasks_peak", "io_read_bytes", "io_write_bytes", "throttled_ns", "stdout_bytes"):
        assert getattr(outcome.usage, name) is None, name
        assert name not in outcome.sources


@pytest.mark.requires("cgroup")
def test_every_number_has_a_source_and_every_source_a_number() -> None:
    """With cgroups, with capture."""
    outcome = supervisor.run(sh("echo x"), capture_output=True)
    for name, source in outcome.sources.items():
        assert source and getattr(outcome.usage, name) is not None, name


@pytest.mark.requires("memory", "pids", "cpu")
def test_with_all_controllers_the_numbers_are_the_kernels() -> None:
    """Memory, tasks and processor time of a job that is told what to use."""
    outcome = supervisor.run(probe("spin", 3, 2, 0.1), limits={"memory_max": "512M", "tasks_max": 50, "cpu_quota": "400%"})
    usage = outcome.usage
    assert outcome.verdict == "ok", outcome
    assert usage.memory_peak_bytes is not None and 1 << 20 < usage.memory_peak_bytes < 512 << 20
    assert usage.tasks_peak in (None, 6)
    assert usage.cpu_ns is not None and usage.cpu_ns >= 600 * MS
    assert usage.throttled_ns is not None


@pytest.mark.usefixtures("holder")
def test_usage_of_many_jobs_at_once_does_not_mix() -> None:
    """Ten that spin beside ten that sleep."""

    async def main() -> list[supervisor.Outcome]:
        async with supervisor.Supervisor() as sup:
            spins = [sup.run(probe("spin", 1, 1, 0.1)) for _ in range(10)]
            sleeps = [sup.run(["sleep", "0.2"]) for _ in range(10)]
            return list(await asyncio.gather(*spins, *sleeps))

    outcomes = asyncio.run(main())
    assert all(o.usage.cpu_ns is not None and o.usage.cpu_ns >= 100 * MS for o in outcomes[:10])
    assert all(o.usage.cpu_ns is not None and o.usage.cpu_ns < 50 * MS * SLOW for o in outcomes[10:])
