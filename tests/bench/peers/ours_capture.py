# SPDX-License-Identifier: Apache-2.0
"""ours_capture MODE FILE COMMAND SIZE: the whole output of a job, read here (read, readinto) or captured to FILE (file, rotated)."""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import time

import supervisor
from tests.bench.peers.measure import own_cpu, report_capture, resident_kib


async def taken(sup: supervisor.Supervisor, mode: str, argv: list[str]) -> int:
    """Bytes read of one job."""
    job = await sup.start(argv, stdout=supervisor.PIPE)
    assert job.stdout is not None
    size = 0
    if mode == "read":
        while data := await job.stdout.read(1 << 20):
            size += len(data)
    else:
        buffer = memoryview(mmap.mmap(-1, 1 << 20))
        while count := await job.stdout.readinto(buffer):
            size += count
    await job.wait()
    return size


async def captured(sup: supervisor.Supervisor, mode: str, argv: list[str], path: str) -> int:
    """Bytes of one job that went to the file, which is left for the caller to remove: giving 1 GiB back is not capturing it."""
    capture = supervisor.Capture(path) if mode == "file" else supervisor.Capture(path, max_bytes="64M", keep=3)
    outcome = await sup.run(argv, stdout=capture)
    assert outcome.ok and outcome.usage.stdout_bytes == int(argv[1]), outcome
    return outcome.usage.stdout_bytes


async def main(mode: str, path: str, argv: list[str]) -> None:
    """One job to warm up, then the one that counts."""
    async with supervisor.Supervisor() as sup:

        async def take(argv: list[str]) -> int:
            return await (taken(sup, mode, argv) if mode.startswith("read") else captured(sup, mode, argv, path))

        await take([argv[0], str(1 << 20)])
        memory, cpu, begun = resident_kib(), own_cpu(), time.monotonic()
        report_capture(await take(argv), cpu, begun)
        print(f"memory {resident_kib() - memory:.0f} KiB")
    for name in (path, *(f"{path}.{number}" for number in range(1, 4))):
        if os.path.exists(name):
            os.unlink(name)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
