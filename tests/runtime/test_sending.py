# SPDX-License-Identifier: Apache-2.0
"""Those who wait to send over a channel: nobody waits for a turn that is never passed on."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import LONG, RawEnd, raw_pair

from supervisor import Channel, Terms
from supervisor.kernel.outbox import Outbox
from supervisor.model import frames
from supervisor.model.message import Message


@asynccontextmanager
async def full_channel(terms: Terms) -> AsyncIterator[tuple[Channel, RawEnd]]:
    """A channel to an end that has stated its terms and has as many messages as it takes."""
    with raw_pair() as (fd, end):
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(fd)
            end.hello(terms)
            while channel._connection.outbox._theirs is None:  # type: ignore[union-attr]
                await asyncio.sleep(0)
            for _ in range(terms.window_messages):
                await channel.send(b"x")
            yield channel, end


async def turns_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_sender_that_gets_no_descriptors_passes_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        monkeypatch.undo()
        raise OSError(errno.EMFILE, "no descriptors")

    async with full_channel(Terms(window_messages=1)) as (channel, end):
        first, second = (asyncio.create_task(channel.send(bytes(size))) for size in (300_000, 1))
        await turns_of_the_loop()
        monkeypatch.setattr(Outbox, "post", refuse)
        end.write(frames.encode_ack(1, Terms(window_messages=1)))
        await second
        with pytest.raises(OSError, match="no descriptors"):
            await first


async def test_an_answer_does_not_wait_for_a_sender_who_waits_for_whoever_wants_that_answer() -> None:
    """A job that asks takes no other messages before it has its answers."""
    requests = 200
    async with full_channel(Terms(window_messages=1)) as (channel, end):
        asked = list[Message]()
        for number in range(1, requests + 1):
            end.message(number, b"", flags=frames.REQUEST)
            asked.append(await channel.receive())
        sender = asyncio.create_task(channel.send(b"after these"))
        await turns_of_the_loop()
        answers = [asyncio.create_task(channel.reply(message, bytes(60_000))) for message in asked]
        await turns_of_the_loop()
        assert not all(answer.done() for answer in answers), "more than the socket holds"
        seen = 0
        while seen < requests:
            seen += bool((await asyncio.to_thread(end.read))[0][1] & frames.REPLY)
        await asyncio.gather(*answers)
        assert not sender.done()
        sender.cancel()
