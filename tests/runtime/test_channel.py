# SPDX-License-Identifier: Apache-2.0
"""A channel between an event loop and real children: Python, C, killed, restarted, hostile."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import ECHO, LONG, example_in_c, peer_program, raw_pair

from supervisor import (
    BrokenError,
    BusyError,
    Channel,
    ClosedError,
    ConfigError,
    Job,
    JobSpec,
    ReplyError,
    Supervisor,
    Terms,
    TimedOutError,
)
from supervisor.model import frames


@asynccontextmanager
async def echo(code: str = ECHO, terms: Terms = Terms()) -> AsyncIterator[tuple[Channel, Job]]:
    """A channel to a child that answers."""
    async with Supervisor() as sup, Channel(terms=terms) as channel, asyncio.timeout(LONG):
        yield channel, await channel.start(sup, peer_program(code))


async def test_a_job_answers_over_the_descriptor_it_inherited() -> None:
    async with echo() as (channel, _):
        assert (await channel.request(b"abc")).body == b"cba"
        await channel.send(b"plain", kind="control")
        message = await channel.receive()
        assert (message.body, message.kind, message.sender, message.wants_reply) == (b"plain", "control", "", False)
        with pytest.raises(ReplyError, match="cannot do that"):
            await channel.request(b"fail")


async def test_a_large_body_comes_as_a_view_of_sealed_memory() -> None:
    async with echo() as (channel, _):
        body = os.urandom(5 << 20)
        answer = await channel.request(body)
        assert isinstance(answer.body, memoryview)
        assert answer.body == body[::-1]
        assert answer.body.readonly


async def test_the_event_loop_goes_on_while_a_large_body_is_copied() -> None:
    async with echo() as (channel, _):
        await channel.request(b"there")
        loop, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            next_turn[0] = loop.call_soon(turn)

        next_turn = [loop.call_soon(turn)]
        asked = await channel.ask(bytes(60 << 20))
        next_turn[0].cancel()
        assert turns > 2
        assert (await asked).size == 60 << 20


async def test_what_is_sent_while_a_large_body_is_copied_comes_after_it() -> None:
    async with echo() as (channel, _):
        await channel.request(b"there")
        sizes = [5 << 20, 1, 6 << 20, 2, 100_000, 3]
        senders = [asyncio.create_task(channel.send(bytes(size))) for size in sizes]
        assert [(await channel.receive()).size for _ in sizes] == sizes
        await asyncio.gather(*senders)


async def test_a_sender_cancelled_while_its_body_is_copied_has_sent_nothing_and_passes_its_turn_on() -> None:
    async with echo() as (channel, _):
        await channel.request(b"there")
        large, small = (asyncio.create_task(channel.send(bytes(size))) for size in (60 << 20, 7))
        await asyncio.sleep(0)
        assert channel._sealing
        large.cancel()
        assert (await channel.receive()).size == 7
        await small
        assert large.cancelled()


async def test_descriptors_travel_to_the_job_and_back() -> None:
    async with echo() as (channel, _):
        reading, writing = os.pipe()
        await channel.send(b"keep", descriptors=[writing])
        os.close(writing)
        (given,) = (await channel.receive()).descriptors
        os.write(given.fileno(), b"there and back")
        assert os.read(reading, 100) == b"there and back"
        os.close(reading)


async def test_many_requests_at_once_each_get_their_own_answer() -> None:
    async with echo(terms=Terms(window_messages=7)) as (channel, _):
        bodies = [f"{number:05}".encode() for number in range(500)]
        answers = await asyncio.gather(*(channel.request(body) for body in bodies))
        assert [answer.body for answer in answers] == [body[::-1] for body in bodies]


async def test_the_order_of_many_senders_is_the_order_of_arrival() -> None:
    """Also when each has to wait for room."""
    async with echo(terms=Terms(window_messages=3)) as (channel, _):
        senders = [asyncio.create_task(channel.send(str(number).encode())) for number in range(300)]
        assert [(await channel.receive()).body for _ in senders] == [str(number).encode() for number in range(300)]
        await asyncio.gather(*senders)


@pytest.mark.requires("cc")
async def test_the_example_in_c_speaks_the_same() -> None:
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        await channel.start(sup, [example_in_c()])
        assert (await channel.request(b"hello")).body == b"olleh"
        large = os.urandom(1 << 20)
        assert (await channel.request(large)).body == large[:-65537:-1][: 1 << 16]
        for number, size in enumerate((0, 10, 60_000, 100_000, 3)):
            await channel.send(bytes(size))
            message = await channel.receive()
            assert message.kind == "status"
            assert bytes(message.body).decode().endswith(f"of {size} bytes"), number
        answers = await asyncio.gather(*(channel.request(str(n).encode()) for n in range(1000)))
        assert [answer.body for answer in answers] == [str(n).encode()[::-1] for n in range(1000)]


async def test_everybody_who_waits_hears_at_once_that_the_job_is_dead() -> None:
    async with echo() as (channel, job):
        await channel.request(b"there")
        window = [channel.send(bytes(1000)) for _ in range(3000)]  # more than fits
        await channel.send(b"stop reading")
        waiting = [asyncio.create_task(each) for each in (*window, channel.request(b"?"), channel.receive())]
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert len(done) < len(waiting)
        await job.kill()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        failed = [result for result in results if result is not None]
        assert len(failed) >= 2
        assert all(isinstance(result, BrokenError) for result in failed)
        with pytest.raises(BrokenError, match="job: closed its end, or died"):
            await channel.send(b"x")


async def test_what_a_job_sent_before_it_died_is_received_first() -> None:
    """Also when it left something unread, for which the kernel reports a reset."""
    code = "import os, supervisor\np = supervisor.connect()\nfor n in range(5): p.send(b'%d' % n)\np.receive()\nos.kill(os.getpid(), 9)"
    async with echo(code) as (channel, job):
        await channel.send_many([b"read", b"not read", b"not read"])
        await job.wait()
        assert [message.body async for message in channel] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.requires("root")  # the socket of an ordinary user holds less than what is read at once
async def test_all_that_a_job_sent_before_it_ended_is_received_however_late() -> None:
    """Nine hundred thousand bytes lie in the socket, its whole window, when this loop hears of the end."""
    code = "import supervisor\np = supervisor.connect()\np.receive()\nfor n in range(900): p.send(b'%03d' % n + bytes(1000))"
    async with echo(code) as (channel, job):
        await channel.send(b"go")
        await asyncio.sleep(0)  # it is written
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
        assert [int(message.body[:3]) async for message in channel] == list(range(900))


async def test_a_restarted_job_gets_what_its_predecessor_had_not_dealt_with() -> None:
    """Marked, in order, under the old numbers; what was dealt with does not come again."""
    code = """
import os, sys, supervisor
peer = supervisor.connect()
for message in peer:
    peer.request(b"%d %d %s" % (message.number, message.resent, bytes(message.body[:9])))
    if message.body == b"3" and not message.resent:
        os.kill(os.getpid(), 9)
"""
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        job = await channel.start(sup, peer_program(code))
        for body in (b"1", b"2", b"3", b"4", b"5" * 100_000):
            await channel.send(body)
        seen = []
        async for message in channel:
            seen.append(message.body)
            await channel.reply(message, b"")
        assert seen == [b"1 0 1", b"2 0 2", b"3 0 3"]
        outcome = await job.wait()
        assert outcome.exit.signal == 9
        with pytest.raises(BrokenError):
            await channel.send(b"nobody there")
        await channel.start(sup, peer_program(code))
        assert channel.generation == 2
        await channel.send(b"6")
        again = []
        for _ in range(4):
            message = await channel.receive()
            again.append(message.body)
            await channel.reply(message, b"")
        assert again == [b"3 1 3", b"4 1 4", b"5 1 555555555", b"6 0 6"]


async def test_requests_are_not_sent_again() -> None:
    """Whoever asked was told."""
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        await channel.start(sup, peer_program())
        with pytest.raises(BrokenError):
            await channel.request(b"die")
        await channel.start(sup, peer_program())
        assert (await channel.request(b"alive")).body == b"evila"


async def test_an_answer_to_a_predecessor_goes_to_nobody() -> None:
    code = "import os, supervisor\np = supervisor.connect()\ntry:\n    print(p.request(b'?', timeout=0.1))\nexcept TimeoutError: pass"
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        job = await channel.start(sup, peer_program(code))
        asked = await channel.receive()
        await job.wait()
        await channel.start(sup, peer_program())
        with pytest.raises(BrokenError, match="whoever asked is gone"):
            await channel.reply(asked, b"late")
        assert (await channel.request(b"ab")).body == b"ba"


async def test_killed_at_any_moment_nothing_is_lost_and_nothing_hangs() -> None:
    """A worker that is killed again and again deals with every message at least once."""
    code = """
import supervisor
peer = supervisor.connect()
for message in peer:
    peer.send(bytes(message.body))
"""
    async with Supervisor() as sup, Channel(terms=Terms(window_messages=64)) as channel, asyncio.timeout(50):
        seen: set[int] = set()
        job = await channel.start(sup, peer_program(code))
        sent, total, kills = 0, 400, 0
        while len(seen) < total:
            try:
                if sent < total:
                    await channel.send(str(sent).encode(), timeout=0.5)
                    sent += 1
                    if sent % 100 == 50:
                        await job.kill()
                        kills += 1
                else:
                    async with asyncio.timeout(0.5):
                        seen.add(int(bytes((await channel.receive()).body)))
            except (BrokenError, TimeoutError):
                if channel.broken:
                    seen.update(int(bytes(message.body)) for message in [message async for message in channel])
                    job = await channel.start(sup, peer_program(code))
                else:
                    seen.add(int(bytes((await channel.receive()).body)))
        assert seen == set(range(total))
        assert kills == 4


async def test_a_request_that_cannot_be_written_fails_and_does_not_wait() -> None:
    """The socket is too small for it, so the connection ends while the request is being sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    with theirs:
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(ours.detach())
            with pytest.raises(BrokenError, match="cannot be written to"):
                await channel.request(bytes(50_000))


async def test_time_outs_leave_nothing_behind() -> None:
    async with echo(terms=Terms()) as (channel, _):
        with pytest.raises(TimedOutError, match="has not answered within"):
            await channel.request(b"silence", timeout=0.05)
        await channel.send(b"stop reading")
        with pytest.raises(TimedOutError, match="nothing was sent"):
            while True:
                await channel.send(bytes(60_000), timeout=0.05)
        assert not channel._connection.link.pending  # type: ignore[union-attr]


async def test_cancelling_loses_nothing() -> None:
    """A cancelled receiver leaves the message, a cancelled sender has sent nothing, and the next one is served."""
    with raw_pair() as (fd, end):
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(fd)
            end.hello(Terms(window_messages=1))
            while channel._connection.outbox._theirs is None:  # type: ignore[union-attr]
                await asyncio.sleep(0)
            await channel.send(b"first")
            waiting = [asyncio.create_task(channel.send(bytes([n]))) for n in range(5)]
            receivers = [asyncio.create_task(channel.receive()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            waiting[2].cancel()
            receivers[0].cancel()
            end.message(1, b"for somebody")
            await asyncio.wait(receivers, return_when=asyncio.FIRST_COMPLETED)
            got = await asyncio.wait_for(receivers[1], LONG)
            assert got.body == b"for somebody"
            receivers[2].cancel()
            received = []
            for number in range(1, 5):
                (frame,) = await asyncio.to_thread(end.read)
                received.append(frame[4])
                end.write(frames.encode_ack(number, Terms(window_messages=1)))
            assert received == [b"first", b"\x01", b"\x03", b"\x04"]
            await asyncio.gather(*waiting, *receivers, return_exceptions=True)


async def test_a_receiver_cancelled_in_the_turn_it_was_woken_passes_it_on() -> None:
    with raw_pair() as (fd, end):
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(fd)
            for number in range(1, 200):
                first, second = asyncio.create_task(channel.receive()), asyncio.create_task(channel.receive())
                await asyncio.sleep(0)
                end.message(number, b"x")
                channel._connection.read()  # type: ignore[union-attr]
                first.cancel()
                assert (await second).number == number


async def test_closing_ends_everything() -> None:
    async with echo() as (channel, job):
        waiting = [asyncio.create_task(channel.receive()), asyncio.create_task(channel.request(b"silence"))]
        await asyncio.sleep(0)
        await channel.aclose()
        await channel.aclose()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [ClosedError, BrokenError]
        for call in (channel.send(b"x"), channel.receive(), channel.request(b"x")):
            with pytest.raises(ClosedError):
                await call
        assert (await job.wait()).verdict == "ok", "the job's loop over messages ended"


async def test_what_was_sent_before_closing_arrives() -> None:
    with raw_pair() as (fd, end):
        channel = Channel()
        channel.connect(fd)
        end.hello()
        for _ in range(16):
            await channel.send(b"last words")
        await channel.aclose()
        found = []
        while frames_ := end.read():
            found += frames_
        assert [frame[4] for frame in found] == [b"last words"] * 16


async def test_a_job_that_ends_ends_the_connection_whoever_else_holds_it() -> None:
    """Here this test itself, which stands for a process that the job passed its descriptor to."""
    code = "import os, sys, time, socket, supervisor\np = supervisor.connect()\np.send(b'x', descriptors=[p.fileno()])\np.request(b'?')"
    async with echo(code) as (channel, job):
        (held,) = (await channel.receive()).descriptors
        await channel.receive()
        assert not channel.broken
        await job.kill()
        with pytest.raises(BrokenError, match="its job has ended"):
            await channel.receive()
        held.close()


async def test_a_channel_has_one_connection_at_a_time() -> None:
    async with Supervisor() as sup, Channel() as channel:
        with pytest.raises(BrokenError, match="not connected yet"):
            await channel.send(b"x")
        await channel.start(sup, JobSpec(argv=tuple(peer_program())))
        with pytest.raises(BusyError):
            await channel.start(sup, peer_program())
        assert (await channel.request(b"ab")).body == b"ba"
        assert len(sup.jobs) == 1


async def test_a_program_that_is_missing_leaves_a_broken_channel() -> None:
    async with Supervisor() as sup, Channel() as channel:
        job = await channel.start(sup, ["/does/not/exist"])
        assert (await job.wait()).verdict == "start_failed"
        with pytest.raises(BrokenError):
            await channel.receive()


async def test_a_bad_start_leaves_nothing() -> None:
    async with Supervisor() as sup, Channel() as channel:
        with pytest.raises(ConfigError):
            await channel.start(sup, [])
        await channel.start(sup, peer_program())
        assert (await channel.request(b"ab")).body == b"ba"


async def test_a_body_that_is_too_large_is_the_sender_s_error() -> None:
    code = "import supervisor\npeer = supervisor.connect(supervisor.Terms(message_max_bytes=100000))\npeer.serve(lambda m: b'ok')"
    async with echo(code) as (channel, _):
        with pytest.raises(ConfigError, match="more than the 100000"):
            await channel.send(bytes(100_001))
        assert (await channel.request(bytes(100_000))).body == b"ok"


@pytest.mark.parametrize(
    "write",
    [
        lambda end: end.write(b"half a fra"),
        lambda end: end.write(bytes(100_000)),
        lambda end: [end.message(number) for number in range(1, 18)],
        lambda end: end.message(1, flags=frames.REPLY),
    ],
    ids=["half a frame", "too big", "above the window", "an answer to nothing"],
)
async def test_a_peer_that_breaks_the_rules_is_cut_off(write: object) -> None:
    with raw_pair() as (fd, end):
        async with Channel(terms=Terms(window_messages=8)) as channel, asyncio.timeout(LONG):
            channel.connect(fd)
            assert callable(write)
            write(end)
            with pytest.raises(BrokenError, match="broke the rules"):
                while True:
                    await channel.receive()
            assert await asyncio.to_thread(end.is_closed)


async def test_who_asks_and_does_not_listen_is_asked_to_wait() -> None:
    """Our memory for its answers is bounded: its requests are not read while they wait to be written."""
    with raw_pair() as (fd, end):
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(fd)

            def ask() -> None:
                for number in range(1, 1001):
                    end.message(number, b"", flags=frames.REQUEST)

            async def answer() -> None:
                async for message in channel:
                    await channel.reply(message, bytes(60_000))

            asking = asyncio.create_task(asyncio.to_thread(ask))  # an ordinary user's socket has no room for all of it
            answering = asyncio.create_task(answer())
            while channel._connection.outbox.queued_bytes < 1 << 20:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
            done, _ = await asyncio.wait([answering], timeout=0.3)
            assert not done
            assert 1 << 20 < channel._connection.outbox.queued_bytes < 2 << 20  # type: ignore[union-attr]
            for number in range(1, 1001):
                (frame,) = await asyncio.to_thread(end.read)
                assert (frame[2], len(frame[4])) == (number, 60_000)
            await asking
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def test_both_ends_can_have_an_event_loop() -> None:
    code = """
import asyncio, supervisor
async def main():
    async with supervisor.Channel.inherit() as channel:
        async for message in channel:
            await channel.reply(message, bytes(message.body).upper())
asyncio.run(main())
"""
    async with echo(code) as (channel, _):
        assert (await channel.request(b"loop")).body == b"LOOP"


UVLOOP = """
import asyncio, sys, uvloop
from supervisor import BrokenError, Channel, Supervisor

async def main():
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(20):
        job = await channel.start(sup, [sys.executable, "-c", sys.argv[1]])
        answers = await asyncio.gather(*(channel.request(str(n).encode()) for n in range(300)))
        assert [answer.body for answer in answers] == [str(n).encode()[::-1] for n in range(300)]
        await channel.send(bytes(1 << 20))
        assert (await channel.receive()).size == 1 << 20
        await job.kill()
        try:
            await channel.request(b"x")
        except BrokenError:
            print("all is well")

uvloop.run(main())
"""


@pytest.mark.requires("uvloop")
def test_uvloop_drives_a_channel_too() -> None:
    """In a process of its own: uvloop keeps a pipe for ever."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", UVLOOP, ECHO], capture_output=True, text=True, check=False)
    assert done.stdout == "all is well\n", done.stderr


def test_a_client_is_imported_without_the_rest() -> None:
    code = "import sys, supervisor; supervisor.connect; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "supervisor.kernel.link" in loaded
    assert not loaded & {
        "asyncio",
        "socket",
        "collections",
        "dataclasses",
        "enum",
        "re",
        "typing",
        "msgspec",
        "pickle",
        "subprocess",
        "threading",
    }
    assert not {name for name in loaded if name.startswith(("supervisor.runtime", "supervisor.control"))}


async def test_a_channel_that_is_closed_while_its_job_starts_leaves_no_job() -> None:
    async with Supervisor() as sup, asyncio.timeout(LONG):
        channel = Channel()
        starting = asyncio.ensure_future(channel.start(sup, ["sleep", "600"]))
        await asyncio.sleep(0)
        await channel.aclose()
        with pytest.raises(ClosedError, match="is closed"):
            await starting
        assert not [job for job in sup.jobs if not job.ended]


async def test_what_is_no_bytes_is_refused_instead_of_sent_as_zeros() -> None:
    async with echo() as (channel, _):
        for wrong in ("text", 5, True):
            with pytest.raises(ConfigError, match="body: must be bytes, not"):
                await channel.send(wrong)  # type: ignore[arg-type]
            with pytest.raises(ConfigError, match="body: must be bytes, not"):
                await channel.request(wrong)  # type: ignore[arg-type]
        assert (await channel.request(bytearray(b"abc"), timeout=LONG)).body == b"cba"
