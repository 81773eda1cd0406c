# SPDX-License-Identifier: Apache-2.0
"""Tee: one stream in two places, each with every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import python, sh

import supervisor
from supervisor import PIPE, STDOUT, Capture, Tee


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 400_000), file_first=st.booleans())
def test_collected_and_captured_are_the_same_bytes(tmp_path: Path, size: int, file_first: bool) -> None:
    data = os.urandom(size)
    places = (Capture(tmp_path / "out"), PIPE) if file_first else (PIPE, Capture(tmp_path / "out"))
    outcome = supervisor.run(["cat"], input=data, stdout=Tee(*places))
    assert outcome.stdout == data == (tmp_path / "out").read_bytes() and outcome.usage.stdout_bytes == size


def test_collected_and_written_to_an_open_file_or_a_pipe(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        outcome = supervisor.run(["seq", "1000"], stdout=Tee(PIPE, file), text=True)
    assert outcome.stdout == (tmp_path / "out").read_text() == "".join(f"{n}\n" for n in range(1, 1001))
    read, write = os.pipe()
    try:
        supervisor.run(["echo", "tea"], stdout=Tee(write, Capture(tmp_path / "out")))
        assert os.read(read, 100) == b"tea\n" == (tmp_path / "out").read_bytes()
    finally:
        os.close(read)
        os.close(write)


def test_our_own_stream_and_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    supervisor.run(sh("echo out; echo err >&2"), stdout=Tee(None, Capture(tmp_path / "out")), stderr=Tee(PIPE, None))
    assert capfd.readouterr() == ("out\n", "err\n") and (tmp_path / "out").read_bytes() == b"out\n"


async def test_a_pipe_and_a_file_at_the_readers_pace(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["cat"], stdin=PIPE, stdout=Tee(PIPE, Capture(tmp_path / "out", max_bytes="1M", keep=9)))
        stdout, _ = await job.communicate(data)
    names = [tmp_path / "out.2", tmp_path / "out.1", tmp_path / "out"]
    assert stdout == data == b"".join(name.read_bytes() for name in names)


@pytest.mark.usefixtures("holder")
async def test_what_nobody_has_read_at_the_end_is_still_there_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """More than a pipe holds is left by the job's end."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["head", "-c", "130000", "/dev/zero"], stdout=Tee(PIPE, Capture(tmp_path / "out")), stderr=PIPE)
        outcome = await job.wait()
        assert outcome.ok and outcome.usage.stdout_bytes == 130_000 == (tmp_path / "out").stat().st_size
        assert job.stdout is not None and job.stdout.unread_bytes == 130_000
        assert await job.stdout.read(10) == bytes(10)
        assert await job.stdout.read() == bytes(129_990) and job.stdout.at_eof()


async def test_what_nobody_has_read_at_the_end_can_be_read_into_a_buffer(tmp_path: Path) -> None:
    """The pipe's part first, then what it did not take."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["head", "-c", "130000", "/dev/zero"], stdout=Tee(PIPE, Capture(tmp_path / "out")))
        await job.wait()
        assert job.stdout is not None
        buffer, got = bytearray(50_000), 0
        while size := await job.stdout.readinto(buffer):
            got += size
    assert got == 130_000


async def test_a_reader_that_leaves_does_not_end_the_file_and_the_last_one_ends_the_job(tmp_path: Path) -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["head", "-c", "3000000", "/dev/zero"], stdout=Tee(PIPE, Capture(tmp_path / "out")))
        assert job.stdout is not None
        job.stdout.close()
        assert (await job.wait()).ok and (tmp_path / "out").stat().st_size == 3_000_000
        read, write = os.pipe()
        job = await sup.start(["yes"], stdout=Tee(PIPE, write))
        os.close(read)
        assert job.stdout is not None
        job.stdout.close()
        assert (await job.wait()).exit.signal == 13
        os.close(write)


async def test_a_copy_can_be_the_input_of_another_job(tmp_path: Path) -> None:
    async with supervisor.Supervisor() as sup:
        first = await sup.start(["seq", "200000"], stdout=Tee(PIPE, Capture(tmp_path / "out")))
        last = await sup.start(["sha256sum"], stdin=first.stdout, stdout=PIPE)
        assert last.stdout is not None
        digest = (await last.stdout.read())[:64]
        assert (await first.wait()).ok
    there = supervisor.run(["sha256sum", tmp_path / "out"], stdout=PIPE)
    assert there.stdout[:64] == digest


@pytest.mark.parametrize("other", ["file", "capture"])
def test_the_cap_is_exact_in_both_places(tmp_path: Path, other: str) -> None:
    with (tmp_path / "open").open("wb") as file:
        place = Capture(tmp_path / "out") if other == "capture" else file
        outcome = supervisor.run(
            python("import os\nwhile True: os.write(1, b'x' * 1000)"), stdout=Tee(PIPE, place), limits={"output_max": 12_345}
        )
    assert outcome.verdict == "output_limit" and len(outcome.stdout) == 12_345
    assert (tmp_path / ("out" if other == "capture" else "open")).stat().st_size == 12_345


async def test_output_events_come_from_a_collected_half(tmp_path: Path) -> None:
    async with supervisor.Supervisor() as sup:
        events = sup.events()
        outcome = await sup.run(sh("echo a; echo b >&2"), stdout=Tee(PIPE, Capture(tmp_path / "out")), stderr=STDOUT)
        assert outcome.stdout == b"a\nb\n"
    assert b"".join([event.data async for event in events if isinstance(event, supervisor.Output)]) == b"a\nb\n"
