# SPDX-License-Identifier: Apache-2.0
"""Pipes between the caller and a job: byte-exact, at the reader's pace, in asyncio's words."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest
from programs import python, sh

import supervisor
from supervisor import PIPE, STDOUT, BusyError, ClosedError, ConfigError

ECHO = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line.upper()); sys.stdout.buffer.flush()"


async def test_a_conversation_by_lines() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(ECHO), stdin=PIPE, stdout=PIPE)
        assert job.stdin is not None and job.stdout is not None and job.stderr is None
        for word in (b"tea\n", b"milk\n"):
            job.stdin.write(word)
            await job.stdin.drain()
            assert await job.stdout.readline() == word.upper()
        job.stdin.close()
        assert await job.stdout.read() == b"" and job.stdout.at_eof()
        outcome = await job.wait()
    assert outcome.ok and outcome.usage.stdout_bytes == 9 and outcome.stdout is None


async def test_more_than_a_pipe_holds_goes_both_ways_at_once() -> None:
    data = os.urandom(5 << 20)
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["cat"], stdin=PIPE, stdout=PIPE)
        stdout, stderr = await job.communicate(data)
    assert stdout == data and stderr is None


async def test_a_reader_that_does_not_read_holds_the_job_back() -> None:
    program = "import os, sys\nfor n in range(64): os.write(1, b'x' * 65536)\nos.write(2, b'done\\n')"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(program), stdout=PIPE, stderr=PIPE)
        assert job.stdout is not None and job.stderr is not None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.stderr.readline(), 0.3)
        size = 0
        while data := await job.stdout.read(1 << 20):
            size += len(data)
        assert size == 64 * 65536
        assert await job.stderr.readline() == b"done\n"
        assert (await job.wait()).usage.stdout_bytes == size


async def test_what_a_job_left_is_there_after_its_end_and_is_counted() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("echo one; echo two"), stdout=PIPE)
        outcome = await job.wait()
        assert outcome.usage.stdout_bytes == 8, "unread, but written"
        assert job.stdout is not None
        assert [line async for line in job.stdout] == [b"one\n", b"two\n"]


async def test_reads_of_every_kind_give_the_same_bytes() -> None:
    text = b"".join(b"%d line\r of some length\n" % n for n in range(5000)) + b"last"
    lines = [line + b"\n" for line in text.split(b"\n")[:-1]]
    async with supervisor.Supervisor() as sup:

        async def written() -> supervisor.Job:
            job = await sup.start(["cat"], stdin=PIPE, stdout=PIPE)
            assert job.stdin is not None
            job.stdin.writelines([text[: len(text) // 2], text[len(text) // 2 :]])
            job.stdin.close()
            return job

        job = await written()
        assert job.stdout is not None
        batches = []
        while batch := await job.stdout.readlines():
            batches += batch
        assert batches == [*lines, b"last"]
        job = await written()
        assert job.stdout is not None
        assert await job.stdout.readexactly(1000) == text[:1000]
        assert await job.stdout.readuntil(b"\r") == text[1000:].partition(b"\r")[0] + b"\r"
        buffer, size = bytearray(len(text)), 0
        rest = text[1000 + len(text[1000:].partition(b"\r")[0]) + 1 :]
        while n := await job.stdout.readinto(memoryview(buffer)[size:]):
            size += n
        assert bytes(buffer[:size]) == rest
        with pytest.raises(asyncio.IncompleteReadError):
            await job.stdout.readexactly(1)


async def test_a_line_beyond_the_limit_is_refused_and_still_there() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("print('x' * 200_000)"), stdout=PIPE)
        assert job.stdout is not None
        with pytest.raises(asyncio.LimitOverrunError):
            await job.stdout.readline()
        assert len(await job.stdout.read()) == 200_001


async def test_a_cancelled_read_loses_nothing_and_two_readers_at_once_are_refused() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(ECHO), stdin=PIPE, stdout=PIPE)
        assert job.stdin is not None and job.stdout is not None
        for read in (job.stdout.read(), job.stdout.readline(), job.stdout.readexactly(5)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read, 0.05)
        waiting = asyncio.ensure_future(job.stdout.readline())
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await job.stdout.read(1)
        job.stdin.write(b"a\nb\n")
        assert await waiting == b"A\n" and await job.stdout.readline() == b"B\n"


async def test_a_second_reader_that_is_refused_takes_nothing_from_the_first() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["cat"], stdin=PIPE, stdout=PIPE)
        assert job.stdin is not None and job.stdout is not None
        job.stdin.write(b"one\nhalf a li")
        assert await job.stdout.readline() == b"one\n"
        first = asyncio.create_task(job.stdout.readline())
        await asyncio.sleep(0)
        for read in (job.stdout.read(), job.stdout.read(3), job.stdout.readinto(bytearray(3)), job.stdout.readexactly(3)):
            with pytest.raises(BusyError):
                await read
        job.stdin.write(b"ne\n")
        assert await first == b"half a line\n"
        await job.kill()


@pytest.mark.parametrize("read", ["readline", "readlines", "read", "readinto", "readexactly"])
async def test_a_job_that_writes_as_fast_as_it_is_read_stops_nothing_else(read: str) -> None:
    """Nobody ever has to wait for its next byte; a time limit around the reading holds all the same."""
    argument: dict[str, Any] = {"read": 1000, "readinto": bytearray(1000), "readexactly": 1000}
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["yes"], stdout=PIPE)
        call = getattr(job.stdout, read)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                while await (call(argument[read]) if read in argument else call()):
                    pass
        await job.kill()


async def test_jobs_in_a_row_and_the_first_learns_that_the_last_reads_no_more() -> None:
    async with supervisor.Supervisor() as sup:
        source = await sup.start(["yes"], stdout=PIPE)
        middle = await sup.start(["cat"], stdin=source.stdout, stdout=PIPE)
        last = await sup.start(["head", "-c", "1000000"], stdin=middle.stdout, stdout=PIPE)
        assert last.stdout is not None
        data = await last.stdout.read()
        assert data == b"y\n" * 500_000
        assert (await last.wait()).ok
        assert [(await job.wait()).exit.signal for job in (middle, source)] == [13, 13]


async def test_what_a_refused_start_was_to_read_is_read_here_as_before() -> None:
    """By reads that wait without the event loop waiting with them."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["cat"], stdin=PIPE, stdout=PIPE)
        assert job.stdin is not None and job.stdout is not None
        with pytest.raises(ConfigError):
            await sup.start(["cat"], stdin=job.stdout, cwd="/", umask=-1)
        reading = asyncio.create_task(job.stdout.readline())
        await asyncio.sleep(0)
        job.stdin.write(b"line\n")
        assert await reading == b"line\n"
        await job.kill()


async def test_a_job_that_reads_no_more_is_a_broken_pipe() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sh", "-c", "exec <&-; sleep 60"], stdin=PIPE)
        assert job.stdin is not None
        with pytest.raises(BrokenPipeError):
            while True:
                job.stdin.write(b"x" * 65536)
                await job.stdin.drain()
                await asyncio.sleep(0)
        job.stdin.close()
        with pytest.raises(ClosedError):
            job.stdin.write(b"late")
        await job.kill()


async def test_a_job_that_is_over_is_a_broken_pipe_too() -> None:
    """Whether the end of its input or its own end is heard of first: here its pipe is open elsewhere, and only its end is."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], stdin=PIPE)
        assert job.stdin is not None
        with open(f"/proc/{job.pid}/fd/0", "rb"):
            job.stdin.write(bytes(1 << 20))
            draining = asyncio.create_task(job.stdin.drain())
            await job.kill()
            with pytest.raises(BrokenPipeError):
                await draining
            job.stdin.write(b"late")
            with pytest.raises(BrokenPipeError):
                await job.stdin.drain()


async def test_an_output_cap_counts_what_is_read_through_pipes() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["yes"], stdout=PIPE, stderr=STDOUT, limits={"output_max": "1M"})
        assert job.stdout is not None
        while await job.stdout.read(65536):
            pass
        outcome = await job.wait()
    assert outcome.verdict == "output_limit" and outcome.enforcement["output_max"] == "bytes counted on the way"


async def test_run_collects_as_before_and_text_needs_collecting() -> None:
    async with supervisor.Supervisor() as sup:
        outcome = await sup.run(["cat"], stdin=PIPE, stdout=PIPE)
        assert outcome.stdout == b""
        with pytest.raises(ConfigError, match="pipes carry bytes"):
            await sup.start(["cat"], stdout=PIPE, text=True)


async def test_a_flood_is_byte_exact() -> None:
    size = 64 << 20
    program = f"import hashlib, os\nblock = os.urandom(1 << 20)\nfor n in range({size >> 20}): os.write(1, block)\nos.write(2, hashlib.sha256(block * {size >> 20}).hexdigest().encode())"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(program), stdout=PIPE, stderr=PIPE)
        digest = hashlib.sha256()
        assert job.stdout is not None and job.stderr is not None
        while data := await job.stdout.read(1 << 20):
            digest.update(data)
        assert (await job.stderr.read()).decode() == digest.hexdigest()
