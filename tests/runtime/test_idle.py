# SPDX-License-Identifier: Apache-2.0
"""Nothing happens: no thread of the supervisor is scheduled, whatever it has under its care."""

from __future__ import annotations

import subprocess
import sys

import pytest

SECONDS = 3
#: One line for each thread: voluntary and involuntary switches while idle; the first is the main thread, which sleeps once.
IDLE = """
import asyncio, os, sys
import supervisor
from supervisor import PIPE, Channel, Pool, Service, ServiceSpec, SharedMemory, Supervisor

PEER = "import supervisor\\nfor message in supervisor.connect(): pass"

def switches():
    found = {}
    for task in sorted(map(int, os.listdir("/proc/self/task"))):
        with open(f"/proc/self/task/{task}/status", encoding="ascii", errors="replace") as file:
            found[task] = [int(line.split()[1]) for line in file if "ctxt_switches" in line]
    return found

async def nothing_happens(seconds):
    before = switches()
    await asyncio.sleep(seconds)
    after = switches()
    assert before.keys() == after.keys(), (before, after)
    for task, counts in after.items():
        print(*[now - then for now, then in zip(counts, before[task])])

async def main(seconds):
    sleep = ["/bin/sleep", "3600"]
    with SharedMemory.create_ring("ring", "4K") as ring:
        async with Supervisor() as sup, Channel() as channel, Pool(2, min_processes=2, supervisor=sup) as pool:
            events = asyncio.ensure_future(anext(sup.events(max_events=8)))
            reader, writer = ring.reader(), ring.writer()
            hearing = asyncio.ensure_future(reader.get())
            for _ in range(20):
                await sup.start(sleep, kill_grace=0)
            await sup.start(sleep, limits={"wall_time_max": "1h"}, kill_grace=0)
            await sup.start(sleep, capture_output=True, kill_grace=0)
            piped = await sup.start(["/bin/cat"], stdin=PIPE, stdout=PIPE, kill_grace=0)
            line = asyncio.ensure_future(piped.stdout.readline())
            paused = await sup.start(sleep, kill_grace=0)
            await paused.pause()
            await channel.start(sup, [sys.executable, "-c", PEER], kill_grace=0)
            await channel.send(b"hello")
            message = asyncio.ensure_future(channel.receive())
            service = Service(sup, ServiceSpec(name="web", exec_start=sleep, restart="always", replicas=3, timeout_stop_sec=0.1))
            await service.start()
            assert await pool.run(len, "four") == 4
            await events
            await asyncio.sleep(0.5)
            await nothing_happens(seconds)
            hearing.cancel(), line.cancel(), message.cancel()
            await asyncio.wait([hearing, line, message])
            reader.close(), writer.close()
            await service.stop()
            for job in sup.jobs:
                if job is not paused and job.pid not in pool.processes:
                    await job.kill()

asyncio.run(main(float(sys.argv[1])))
"""


@pytest.mark.usefixtures("holder")
def test_no_thread_wakes_while_jobs_channels_rings_pools_and_services_are_idle() -> None:
    done = subprocess.run([sys.executable, "-c", IDLE, str(SECONDS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    main, *others = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert main[0] == 1, f"the main thread slept {main[0]} times instead of once"
    assert others
    assert set(others) == {(0, 0)}, f"threads woke: {others}"
