# SPDX-License-Identifier: Apache-2.0
"""An exchange: jobs that talk by name, and what happens to the others when one lies, floods, hangs or dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import LONG, RawEnd, peer_program, raw_pair

from supervisor import BrokenError, BusyError, Channel, ClosedError, ConfigError, Exchange, Message, ReplyError, Sealed, Supervisor, Terms
from supervisor.kernel.packet_socket import make_pair
from supervisor.model import frames


class Hall:
    """An exchange whose members are channels of this test, or raw ends."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._ends: list[Channel | RawEnd] = []

    def join(self, name: str, *topics: str, terms: Terms = Terms()) -> Channel:
        ours, theirs = make_pair()
        self.exchange.add(name, ours, topics=topics)
        channel = Channel(name, terms)
        channel.connect(theirs)
        self._ends.append(channel)
        return channel

    def join_raw(self, name: str) -> RawEnd:
        ours, theirs = make_pair()
        self.exchange.add(name, ours)
        self._ends.append(RawEnd(theirs))
        return self._ends[-1]  # type: ignore[return-value]

    async def close(self) -> None:
        for end in self._ends:
            if isinstance(end, Channel):
                await end.aclose()
            else:
                end.close()


@asynccontextmanager
async def hall(patience: float = 5, **options: object) -> AsyncIterator[Hall]:
    async with asyncio.timeout(LONG), Exchange(patience=patience, **options) as exchange:  # type: ignore[arg-type]
        made = Hall(exchange)
        try:
            yield made
        finally:
            await made.close()


async def test_members_talk_by_name_and_to_the_supervisor() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")
        await a.send(b"to b", to="b", kind="control")
        message = await b.receive()
        assert (message.body, message.sender, message.kind) == (b"to b", "a", "control")
        await b.send(b"to you", kind="status")
        message = await here.exchange.receive()
        assert (message.body, message.sender, message.kind) == (b"to you", "b", "status")
        await here.exchange.send("a", b"from above")
        message = await a.receive()
        assert (message.body, message.sender) == (b"from above", "")


async def test_requests_go_both_ways_and_between_members() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")

        async def serve(end: Channel, prefix: bytes) -> None:
            async for message in end:
                if message.body == b"no":
                    await end.refuse(message, "no")
                else:
                    await end.reply(message, prefix + message.sender.encode() + b":" + bytes(message.body))

        async def serve_here() -> None:
            async for message in here.exchange:
                await here.exchange.reply(message, b"up:" + message.sender.encode())

        serving = [asyncio.create_task(serve(b, b"b:")), asyncio.create_task(serve_here())]
        assert (await a.request(b"1", to="b")).body == b"b:a:1"
        assert (await a.request(b"2")).body == b"up:a"
        assert (await here.exchange.request("b", b"3")).body == b"b::3"
        large = os.urandom(200_000)
        assert bytes((await a.request(large, to="b")).body) == b"b:a:" + large
        with pytest.raises(ReplyError, match="failed: no"):
            await a.request(b"no", to="b")
        answers = await asyncio.gather(*(a.request(str(n).encode(), to="b") for n in range(300)))
        assert [answer.body for answer in answers] == [b"b:a:%d" % n for n in range(300)]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_a_message_to_everybody_reaches_everybody_else() -> None:
    async with hall() as here:
        a, b, c = here.join("a"), here.join("b"), here.join("c")
        await a.send(b"hear", to="*")
        for end in (b, c, here.exchange):
            message = await end.receive()
            assert (message.body, message.sender) == (b"hear", "a")
        assert await here.exchange.broadcast(b"all", kind="control") == ("a", "b", "c")
        for end in (a, b, c):
            message = await end.receive()
            assert (message.body, message.sender, message.kind) == (b"all", "", "control")


async def test_a_topic_reaches_its_subscribers() -> None:
    async with hall() as here:
        a, b, c = here.join("a"), here.join("b", "#prices"), here.join("c")
        await a.send(b"1", to="#prices")
        assert (await b.receive()).body == b"1"
        here.exchange.subscribe("c", "#prices")
        assert await here.exchange.broadcast(b"2", topic="#prices") == ("b", "c")
        assert (await c.receive()).body == b"2"
        here.exchange.unsubscribe("b", "#prices")
        assert await here.exchange.broadcast(b"3", topic="#prices") == ("c",)
        assert await here.exchange.broadcast(b"4", topic="#nobody") == ()


async def test_a_large_body_is_copied_once_for_all() -> None:
    """Every member maps the same memory."""
    async with hall() as here:
        ends = [here.join(f"m{n}") for n in range(5)]
        for end in ends:
            await end.send(b"here")
            await here.exchange.receive()
        with Sealed(os.urandom(1 << 20)) as sealed:
            wanted = os.fstat(sealed.fileno()).st_ino
            await here.exchange.broadcast(sealed)
            messages = [await end.receive() for end in ends]
            assert {os.fstat(message.sealed.fileno()).st_ino for message in messages} == {wanted}
        await ends[0].send(os.urandom(1 << 20), to="*")
        messages = [await end.receive() for end in ends[1:]]
        assert len({os.fstat(message.sealed.fileno()).st_ino for message in messages}) == 1


async def test_descriptors_are_carried_on() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")
        reading, writing = os.pipe()
        await a.send(b"take", to="b", descriptors=[writing])
        message = await b.receive()
        os.close(writing)
        os.write(message.descriptors[0].fileno(), b"x")
        assert os.read(reading, 10) == b"x"
        os.close(reading)


async def test_a_job_cannot_say_another_name() -> None:
    """Whatever it writes into its frames, others see the name the exchange gave it."""
    async with hall() as here:
        honest = here.join("honest")
        liar = here.join_raw("liar")
        liar.hello()
        liar.message(1, b"I am the supervisor", to="honest")
        assert (await honest.receive()).sender == "liar"
        liar.message(2, b"to the supervisor")
        assert (await here.exchange.receive()).sender == "liar"
        liar.message(3, frames.encode_error(frames.GONE, "honest is dead"), flags=frames.ERROR, to="honest")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await honest.receive()
        assert "never sent" in here.exchange.broken("liar"), "an error about a message that it never got"


async def test_a_message_to_nobody_comes_back_with_the_reason() -> None:
    async with hall(allow=lambda sender, to: (sender, to) != ("a", "c")) as here:
        a, b = here.join("a"), here.join("b")
        here.join("c")
        with pytest.raises(ReplyError, match="unknown: there is no member 'x'"):
            await a.request(b"?", to="x")
        await a.send(b"!", to="x")
        message = await a.receive()
        assert message.error == ("unknown", "there is no member 'x'")
        assert message.number == 2
        with pytest.raises(ReplyError, match="refused: a may not send to c"):
            await a.request(b"?", to="c")
        with pytest.raises(ReplyError, match="refused: a request goes to one member"):
            await a.request(b"?", to="*")
        await b.aclose()
        while not here.exchange.broken("b"):
            await asyncio.sleep(0)
        with pytest.raises(BrokenError, match="b: b: closed its end"):
            await a.request(b"?", to="b")
        with pytest.raises(ConfigError, match="no member 'x'"):
            await here.exchange.send("x", b"")


async def test_who_asked_a_member_that_dies_hears_it_at_once() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")
        asking = [asyncio.create_task(a.request(b"?", to="b")) for _ in range(10)]
        asking += [asyncio.create_task(here.exchange.request("b", b"?"))]
        for _ in asking:
            await b.receive()
        await b.aclose()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(result, BrokenError)


async def test_a_member_that_takes_nothing_harms_only_those_who_talk_to_it() -> None:
    async with hall(patience=0.05) as here:
        a, b, c = here.join("a"), here.join("b"), here.join("c")
        here.join_raw("deaf").hello(Terms(window_messages=2))
        while here.exchange._members["deaf"].channel._connection.outbox._theirs is None:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        await a.send_many([b"1", b"2", b"3", b"4"], to="deaf")
        assert [(await a.receive()).error[0] for _ in range(2)] == ["busy", "busy"]  # type: ignore[index]
        with pytest.raises(ReplyError, match="busy: deaf takes no messages"):
            await a.request(b"?", to="deaf")
        await a.send(b"still here", to="b")
        assert (await b.receive()).body == b"still here"
        assert await here.exchange.broadcast(b"all") == ("a", "b", "c")
        assert here.exchange.missed("deaf") == 1
        assert (await c.receive()).body == b"all"


async def test_a_flood_is_held_back_at_its_source() -> None:
    """The supervisor takes nothing: the sender waits, the exchange's memory stays bounded, others go on."""
    async with hall() as here:
        a, b, c = here.join("a"), here.join("b"), here.join("c")
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await a.send(bytes(100))
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert 1000 < sent < 4000
        await b.send(b"meanwhile", to="c")
        assert (await c.receive()).body == b"meanwhile"
        for _ in range(3000):
            await here.exchange.receive()
        assert sent > 3000
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_who_asks_and_takes_no_answers_is_cut_off() -> None:
    async with hall() as here:
        b = here.join("b")
        greedy = here.join_raw("greedy")
        greedy.hello()

        async def serve() -> None:
            async for message in b:
                await b.reply(message, bytes(60_000))

        serving = asyncio.create_task(serve())

        def ask() -> None:
            with contextlib.suppress(OSError):  # cut off while it asks
                for number in range(1, 1001):
                    greedy.message(number, b"", flags=frames.REQUEST, to="b")

        await asyncio.to_thread(ask)  # an ordinary user's socket has no room for all of it
        assert await asyncio.to_thread(greedy.is_closed)
        assert here.exchange.broken("greedy") == "takes no answers to what it asks"
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert (await here.exchange.broadcast(b"x")) == ("b",)


@pytest.mark.parametrize("garbage", [b"x", bytes(5000), bytes(100_000), frames.encode(frames.DATA, 0, 1, b"b", 10)])
async def test_garbage_from_one_member_ends_that_member_only(garbage: bytes) -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")
        bad = here.join_raw("bad")
        bad.write(garbage)
        assert await asyncio.to_thread(bad.is_closed)
        assert "broke the rules" in here.exchange.broken("bad")
        await a.send(b"fine", to="b")
        assert (await b.receive()).body == b"fine"


async def test_a_successor_takes_the_name_and_what_was_not_dealt_with() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b", "#t")
        await a.send(b"1", to="b")
        await a.send(b"2", to="b")
        assert (await b.receive()).body == b"1"
        with pytest.raises(BusyError), raw_pair() as (fd, _):
            try:
                here.exchange.add("b", fd)
            finally:
                os.close(fd)
        while len(here.exchange._members["b"].channel._connection.outbox._unacknowledged) < 2:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        b._connection.fail("died")  # type: ignore[union-attr]  # without a word
        while not here.exchange.broken("b"):
            await asyncio.sleep(0)
        successor = here.join("b")
        found = [await successor.receive() for _ in range(2)]
        assert [(message.body, message.resent, message.sender) for message in found] == [(b"1", True, "a"), (b"2", True, "a")]
        assert await here.exchange.broadcast(b"kept its topics", topic="#t") == ("b",)
        await successor.send(b"hello", to="a")
        assert (await a.receive()).sender == "b"


async def test_bad_names_are_refused() -> None:
    async with hall() as here:
        for name in ("", "*", "#x", "a b"):
            with raw_pair() as (fd, _):
                with pytest.raises(ConfigError):
                    here.exchange.add(name, fd)
                os.close(fd)
        with raw_pair() as (fd, _):
            with pytest.raises(ConfigError, match="topic"):
                here.exchange.add("a", fd, topics=["prices"])
            os.close(fd)
        assert here.exchange.members == ()


async def test_closing_ends_everybody_who_waits() -> None:
    async with Exchange() as exchange:
        with raw_pair() as (fd, end):
            exchange.add("a", fd)
            waiting = [asyncio.create_task(exchange.receive()), asyncio.create_task(exchange.request("a", b"?"))]
            await asyncio.sleep(0)
            await exchange.aclose()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [ClosedError, BrokenError]
            assert await asyncio.to_thread(end.is_closed)
            assert [message async for message in exchange] == []


async def test_a_member_can_be_removed() -> None:
    async with hall() as here:
        a, b = here.join("a"), here.join("b")
        await here.exchange.remove("b")
        assert here.exchange.members == ("a",)
        with pytest.raises(ReplyError, match="unknown"):
            await a.request(b"?", to="b")
        with pytest.raises(BrokenError):
            await b.receive()


WORKER = """
import supervisor
peer = supervisor.connect()
for message in peer:
    if message.wants_reply:
        peer.reply(message, peer.request(b"?", to="store").body if message.body == b"relay" else message.sender.encode() + b" asked")
"""
STORE = """
import supervisor
peer = supervisor.connect()
peer.send(b"ready", kind="status")
peer.serve(lambda message: b"store to " + message.sender.encode())
"""


async def test_real_jobs_talk_to_each_other() -> None:
    async with Supervisor() as sup, Exchange() as exchange, asyncio.timeout(LONG):
        await exchange.start(sup, "store", peer_program(STORE))
        ready: Message = await exchange.receive()
        assert (ready.sender, ready.kind, ready.body) == ("store", "status", b"ready")
        jobs = [await exchange.start(sup, f"w{n}", peer_program(WORKER)) for n in range(3)]
        answers = await asyncio.gather(*(exchange.request(f"w{n}", b"relay") for n in range(3)))
        assert [answer.body for answer in answers] == [b"store to w0", b"store to w1", b"store to w2"]
        await jobs[1].kill()
        with pytest.raises(BrokenError):
            await exchange.request("w1", b"x")
        await exchange.start(sup, "w1", peer_program(WORKER))
        assert (await exchange.request("w1", b"relay")).body == b"store to w1"


async def test_kills_at_random_moments_harm_nobody_else() -> None:
    """While two workers ask a third without end, a fourth is killed and restarted again and again."""
    asker = """
import supervisor
peer = supervisor.connect()
count = 0
while True:
    assert peer.request(b"?", to="store").body == b"store to " + b"%s"
    count += 1
    if count %% 50 == 0: peer.send(b"x")
"""
    async with Supervisor() as sup, Exchange() as exchange, asyncio.timeout(50):
        await exchange.start(sup, "store", peer_program(STORE))
        await exchange.receive()
        for name in ("a", "b"):
            await exchange.start(sup, name, peer_program(asker % name))
        noisy = "import supervisor\npeer = supervisor.connect()\nwhile True: peer.send(bytes(5000), to='*')"
        for _ in range(5):
            job = await exchange.start(sup, "victim", peer_program(noisy))
            progress = {"a": 0, "b": 0}
            while min(progress.values()) < 2:
                message = await exchange.receive()
                if message.sender in progress:
                    progress[message.sender] += 1
            await job.kill()
            while not exchange.broken("victim"):
                await asyncio.sleep(0)
        assert not exchange.broken("a") and not exchange.broken("b") and not exchange.broken("store")


async def test_an_allow_function_that_raises_refuses_that_message_and_stops_nobody() -> None:
    def allow(sender: str, to: str) -> bool:
        return [True][len(to)]

    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    async with hall(allow=allow) as here:
        a, b = here.join("a"), here.join("b")
        for sender in (a, b):
            with pytest.raises(ReplyError, match=r"refused: . may not send to c"):
                await sender.request(b"?", to="c")
            await sender.send(b"still here")
            assert (await here.exchange.receive()).body == b"still here"
    assert [type(error) for error in told] == [IndexError, IndexError]


async def test_an_answer_with_more_descriptors_than_can_be_passed_on_is_told_to_whoever_asked() -> None:
    async with hall() as here:
        a, raw = here.join("a"), here.join_raw("b")
        raw.hello()
        asking = asyncio.ensure_future(a.request(b"?", to="b", timeout=LONG))
        ((_, _, number, _, _, _),) = await asyncio.to_thread(raw.read)
        raw.write(frames.encode(frames.DATA, frames.REPLY, number, b"", 0, frames.DESCRIPTORS_MAX), (0,) * frames.DESCRIPTORS_MAX)
        with pytest.raises(ReplyError, match=r"refused: the answer cannot be carried: .* are more than"):
            await asking
