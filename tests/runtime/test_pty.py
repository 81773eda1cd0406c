# SPDX-License-Identifier: Apache-2.0
"""A terminal for a job, whose other side is the job's stdin and stdout."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from typing import Any

import pytest
from programs import python, sh

import supervisor
from supervisor import PIPE, Capture, ClosedError, ConfigError, JobSpec

pytestmark = pytest.mark.requires("tty")
RESIZED = (
    "import os, signal\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n"
    "while True:\n"
    "  print(*os.get_terminal_size(), flush=True)\n"
    "  signal.sigwait([signal.SIGWINCH])"
)


@pytest.mark.usefixtures("holder")
async def test_a_conversation_on_a_terminal() -> None:
    code = "import os, sys\nprint(*map(os.isatty, range(3)), os.tcgetpgrp(0) == os.getpgrp())\nprint(input('name? ') + '!')"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(code), pty=True)
        assert job.stdin is not None and job.stdout is not None and job.stderr is None
        assert await job.stdout.readline() == b"True True True True\r\n"
        assert await job.stdout.readuntil(b"? ") == b"name? "
        job.stdin.write(b"tea\n")
        assert await job.stdout.read() == b"tea\r\ntea!\r\n", "echoed by the terminal, then answered"
        outcome = await job.wait()
    assert outcome.ok and outcome.usage.stdout_bytes == 21 + 6 + 11


async def test_the_size_is_what_was_asked_for_and_a_change_is_told() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(RESIZED), pty=(30, 100))
        assert job.stdout is not None
        assert await job.stdout.readline() == b"100 30\r\n"
        job.set_window_size(50, 132)
        assert await job.stdout.readline() == b"132 50\r\n"
        await job.kill()
        for size in ((0, 80), (24, 65536), (True, 80), ("24", 80)):
            with pytest.raises(ConfigError, match="pty: "):
                job.set_window_size(*size)
        job.stdout.close()
        with pytest.raises(ClosedError):
            job.set_window_size(24, 80)


@pytest.mark.parametrize("text", [b"", b"one\ntwo\n", b"no end of line"])
async def test_closing_the_input_is_the_end_of_file_for_a_reader_of_lines(text: bytes) -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sh", "-c", "stty -echo; echo ready; exec wc -c"], pty=True)
        assert job.stdout is not None
        assert await job.stdout.readline() == b"ready\r\n"
        stdout, stderr = await asyncio.wait_for(job.communicate(text), 20)
    assert stdout is not None and int(stdout) == len(text) and stderr is None


CLOSES_ITS_STREAMS = (
    "import os, signal, sys\nos.write(1, b'done\\n')\nfor fd in range(3): os.close(fd)\nos.read(int(sys.argv[1]), 1)\nos._exit(7)"
)


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("into", [False, True], ids=["read", "readinto"])
async def test_reading_a_terminal_to_its_end_hangs_up_on_nobody(into: bool) -> None:
    """Programs close their streams before they exit: that is the end of the output, and no reason for SIGHUP."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(CLOSES_ITS_STREAMS, read_end), pty=True, pass_fds=[read_end])
        os.close(read_end)
        assert job.stdin is not None and job.stdout is not None
        job.stdin.close()
        buffer = bytearray(100)
        if into:
            got = b""
            while size := await job.stdout.readinto(buffer):
                got += buffer[:size]
        else:
            got = await job.stdout.read()
        assert got == b"done\r\n" and job.stdout.at_eof()
        os.write(write_end, b"x")
        os.close(write_end)
        assert (await job.wait()).exit.code == 7
        await asyncio.sleep(0)
        assert job.stdout.fileno() == -1, "closed with the job"


async def test_closing_a_terminal_hangs_up() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("echo ready; exec sleep 60"), pty=True)
        assert job.stdin is not None and job.stdout is not None
        assert await job.stdout.readline() == b"ready\r\n"
        job.stdin.close()
        job.stdout.close()
        assert (await job.wait()).exit.signal == 1


async def test_ctrl_c_ends_the_foreground_program() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("echo ready; exec sleep 60"), pty=True)
        assert job.stdin is not None and job.stdout is not None
        await job.stdout.readline()
        job.stdin.write(b"\x03")
        assert (await job.wait()).exit.signal == 2


async def test_much_output_arrives_whole_and_what_is_unread_at_the_end_stays() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["seq", "30000"], pty=True)
        assert job.stdout is not None
        assert await job.stdout.read() == b"".join(b"%d\r\n" % n for n in range(1, 30_001))
        job = await sup.start(["echo", "late"], pty=True)
        assert (await job.wait()).ok and job.stdout is not None
        assert await job.stdout.read() == b"late\r\n"


async def test_the_output_cap_counts_on_a_terminal() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["yes"], pty=True, limits={"output_max": "10K"})
        assert job.stdout is not None
        while await job.stdout.read(4096):
            pass
        assert (await job.wait()).verdict == "output_limit"


WRONG: dict[str, tuple[Any, dict[str, Any]]] = {
    "a number": (3, {}),
    "three numbers": ((1, 2, 3), {}),
    "no rows": ((0, 80), {}),
    "stdout too": (True, {"stdout": PIPE}),
    "a file too": (True, {"stderr": Capture("log")}),
    "input too": (True, {"input": b"x"}),
    "collected": (True, {"capture_output": True}),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_makes_no_sense_on_a_terminal_is_refused(name: str) -> None:
    asked, options = WRONG[name]
    async with supervisor.Supervisor() as sup:
        with pytest.raises(ConfigError, match=r"^pty: "):
            await sup.start(["true"], pty=asked, **options)


async def test_a_specification_and_a_missing_program_work_on_a_terminal_and_leave_nothing() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(JobSpec(argv=["tty"]), pty=True)
        assert job.stdout is not None and (await job.stdout.read()).startswith(b"/dev/pts/")
        job = await sup.start(["/no/such/program"], pty=True)
        assert job.state == "failed" and job.stdout is not None and await job.stdout.read() == b""
        with pytest.raises(ConfigError, match="no terminal"):
            (await sup.start(["true"])).set_window_size(24, 80)


async def test_a_terminal_that_cannot_be_had_for_lack_of_descriptors_leaves_none() -> None:
    """Wherever on the way to the start they run out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen: set[object] = set()
    async with supervisor.Supervisor() as sup:
        await sup.run(["/no/such/program"])  # what is loaded and kept is there
        free = os.dup(0)  # the lowest number that is free
        os.close(free)
        before = os.listdir("/proc/self/fd")
        for room in range(16):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
            try:
                job = await sup.start(["/no/such/program"], pty=True)
            except OSError as error:
                seen.add(error.errno)
            else:
                assert job.stdout is not None
                job.stdout.close()
                await job.wait()
                seen.add(job.state)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await sup.until_idle()
            assert os.listdir("/proc/self/fd") == before
    assert seen == {errno.EMFILE, "failed"}


@pytest.mark.parametrize("into", [False, True], ids=["read", "readinto"])
async def test_what_a_terminal_still_holds_when_it_says_that_it_has_ended_is_read(into: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may say so of a job that writes and ends between its two looks."""
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["echo", "last words"], pty=True)
        await job.wait()
        assert job.stdout is not None
        said: list[bool] = []

        def hasty(real: Any) -> Any:
            def read(*args: Any) -> Any:
                if not said:
                    said.append(True)
                    raise OSError(errno.EIO, "too early")
                return real(*args)

            return read

        monkeypatch.setattr(os, "readv" if into else "read", hasty(os.readv if into else os.read))
        buffer = bytearray(100)
        got = bytes(buffer[: await job.stdout.readinto(buffer)]) if into else await job.stdout.read()
        monkeypatch.undo()
    assert said and got == b"last words\r\n"
