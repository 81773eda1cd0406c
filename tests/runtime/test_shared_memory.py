# SPDX-License-Identifier: Apache-2.0
"""SharedMemory with real jobs: given by name, charged to whom it should be, gone with everybody, awaited on an event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from waiting import eventually, wait_dead

import supervisor
from supervisor import SharedMemory

MIB = 1 << 20


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


# ---- segments ----


def test_a_job_is_given_segments_by_name() -> None:
    """Input that it cannot write, output that it can."""
    code = """
from supervisor import SharedMemory
question, answer = SharedMemory.open("question"), SharedMemory.open("answer")
answer.buffer[:5] = bytes(reversed(question.read(0, 5)))
try:
    question.write(b"mine")
except ValueError as error:
    print(error)
"""
    with SharedMemory.create("question", 4096) as question, SharedMemory.create("answer", 4096, grant="rw") as answer:
        question.write(b"hello")
        hand = SharedMemory.hand_over(question.grant("r"), answer.grant("rw"))
        outcome = supervisor.run(python(code), pass_fds=hand.pass_fds, env=hand.env, capture_output=True, text=True)
        assert (outcome.verdict, outcome.stdout) == ("ok", "question: this process may only read it (r)\n"), outcome.stderr
        assert answer.read(0, 5) == b"olleh"


@pytest.mark.requires("memory")
@pytest.mark.parametrize("prefault", [False, True])
def test_pages_are_charged_to_whoever_touches_them_first(prefault: bool) -> None:
    """What a job writes counts against its memory limit; with prefault it was paid before."""
    code = """
from supervisor import SharedMemory
out = SharedMemory.open("out").buffer
for at in range(0, len(out), 4096):
    out[at] = 1
"""
    with SharedMemory.create("out", 64 * MIB, grant="rw", prefault=prefault) as out:
        hand = SharedMemory.hand_over(out.grant("rw"))
        limits = {"memory_max": 48 * MIB, "memory_swap_max": 0}
        outcome = supervisor.run(python(code), pass_fds=hand.pass_fds, env=hand.env, limits=limits)
        assert outcome.verdict == ("ok" if prefault else "memory_limit")


def test_nothing_is_left_of_a_supervisor_that_is_killed() -> None:
    """Its memory has no name anywhere: gone with the last process that has it."""
    code = """
import os, signal, sys
from supervisor import SharedMemory
memory = SharedMemory.create("gone", "32M", prefault=True)
ring = SharedMemory.create_ring("ring")
print(os.stat(f"/proc/self/fd/{memory.grant('r').fds[0]}").st_ino, flush=True)
signal.pause()
"""
    before = os.listdir("/dev/shm")
    process = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip().isdigit()
    shared = shared_kib()
    process.kill()
    process.communicate()
    wait_dead(process.pid)
    eventually(lambda: shared_kib() <= shared - 24 * 1024)  # other programs' shared memory moves too, by less
    assert os.listdir("/dev/shm") == before


def shared_kib() -> int:
    """Shared memory of the whole machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Shmem:"))


# ---- rings on an event loop ----

ECHO = """
from supervisor import SharedMemory
answers = SharedMemory.open_writer("answers")
for message in SharedMemory.open_reader("questions"):
    answers.write(message.upper())
answers.close()
"""


async def test_a_job_answers_through_rings_while_the_event_loop_runs() -> None:
    with SharedMemory.create_ring("questions", "64K") as questions, SharedMemory.create_ring("answers", "64K") as answers:
        ask, hear = questions.writer(), answers.reader()
        hand = SharedMemory.hand_over(questions.grant_reader(), answers.grant_writer())
        async with supervisor.Supervisor() as sup:
            job = await sup.start(python(ECHO), pass_fds=hand.pass_fds, env=hand.env)
            questions.release()
            answers.release()
            await ask.put(b"one")
            assert await hear.get() == b"ONE"
            many = [b"x%d" % n for n in range(20000)]

            async def ask_all() -> None:
                await ask.put_many(many)
                ask.close()

            asking = asyncio.create_task(ask_all())
            heard = [message async for message in hear]
            await asking
            assert heard == [message.upper() for message in many]
            assert (await job.wait()).verdict == "ok"
        hear.close()


async def test_the_death_of_a_job_ends_what_waits_for_it_at_once() -> None:
    """A reader and a writer, both asleep on the event loop."""
    with SharedMemory.create_ring("to", 4096) as to, SharedMemory.create_ring("fro", 4096) as fro:
        writer, reader = to.writer(), fro.reader()
        hand = SharedMemory.hand_over(to.grant_reader(), fro.grant_writer())
        async with supervisor.Supervisor() as sup:
            job = await sup.start(["sleep", "60"], pass_fds=hand.pass_fds, env=hand.env)
            to.release()
            fro.release()
            while writer.try_write(b"x" * 500):
                pass
            waiting = [asyncio.create_task(reader.get()), asyncio.create_task(writer.put(b"x" * 500))]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            await job.kill()
            found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
            assert [type(error) for error in found] == [supervisor.BrokenError, supervisor.BrokenError]
        writer.close()
        reader.close()


async def test_a_cancelled_wait_leaves_the_end_as_it_was() -> None:
    with SharedMemory.create_ring("q", 4096) as ring:
        writer, reader = ring.writer(), ring.reader()
        for _ in range(50):
            task = asyncio.create_task(reader.get())
            await asyncio.sleep(0)
            with pytest.raises(supervisor.BusyError, match="another task waits"):
                await reader.get()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        writer.write(b"kept")
        assert await reader.get() == b"kept"
        while writer.try_write(b"x" * 500):
            pass
        putting = asyncio.create_task(writer.put(b"not written" * 50))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert set(await reader.get_many()) == {b"x" * 500}
        writer.close()
        reader.close()


async def test_a_ring_that_never_runs_dry_stops_nothing_else() -> None:
    with SharedMemory.create_ring("full", "4M") as ring, ring.writer() as writer, ring.reader() as reader:
        writer.write_many([b"x"] * 100_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                for _ in range(100_000):
                    await reader.get()


async def test_everybody_hears_a_broadcast_and_a_slow_listener_hears_of_its_loss() -> None:
    with SharedMemory.create_ring("news", 4096, readers=2, broadcast=True) as ring:
        writer, quick, slow = ring.writer(), ring.reader(0), ring.reader(1)
        heard: list[bytes] = []
        for n in range(100):
            await writer.put(b"%d" % n * 20)
            heard += await quick.get_many()
        assert heard == [b"%d" % n * 20 for n in range(100)]
        with pytest.raises(supervisor.OverrunError) as caught:
            await slow.get()
        rest = await slow.get_many()
        assert caught.value.lost == slow.lost == 100 - len(rest)
        assert rest == heard[-len(rest) :]
        for end in (writer, quick, slow):
            end.close()


def test_opening_a_ring_in_a_job_loads_no_asyncio() -> None:
    code = """
import sys
from supervisor import SharedMemory
reader = SharedMemory.open_reader("q")
print(sorted({"asyncio", "typing", "dataclasses", "subprocess"} & set(sys.modules)), reader.read())
"""
    with SharedMemory.create_ring("q") as ring:
        writer = ring.writer()
        writer.write(b"hello")
        hand = SharedMemory.hand_over(ring.grant_reader())
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
            pass_fds=hand.pass_fds,
            env=hand.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "[] b'hello'\n", done.stderr
        writer.close()
