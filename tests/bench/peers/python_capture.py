# SPDX-License-Identifier: Apache-2.0
"""python_capture TOOL COMMAND SIZE: the whole output of a child, read by asyncio, uvloop, trio or subprocess.Popen."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import time

from tests.bench.peers.measure import own_cpu, report_capture

PIECE = 1 << 16


async def by_asyncio(argv: list[str]) -> int:
    """Through a StreamReader."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    size = 0
    while data := await process.stdout.read(PIECE):
        size += len(data)
    await process.wait()
    return size


async def by_trio(argv: list[str]) -> int:
    """Through a receive stream."""
    trio = importlib.import_module("trio")
    process = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE)
    size = 0
    while data := await process.stdout.receive_some(PIECE):
        size += len(data)
    await process.wait()
    return size


def by_popen(argv: list[str]) -> int:
    """By blocking reads."""
    size = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while data := process.stdout.read(PIECE):
            size += len(data)
    return size


def take(tool: str, argv: list[str]) -> int:
    """Bytes read of one child."""
    if tool == "popen":
        return by_popen(argv)
    if tool == "trio":
        return int(importlib.import_module("trio").run(by_trio, argv))
    if tool == "uvloop":
        return int(importlib.import_module("uvloop").run(by_asyncio(argv)))
    return asyncio.run(by_asyncio(argv))


take(sys.argv[1], [sys.argv[2], str(1 << 20)])
cpu, begun = own_cpu(), time.monotonic()
report_capture(take(sys.argv[1], sys.argv[2:]), cpu, begun)
