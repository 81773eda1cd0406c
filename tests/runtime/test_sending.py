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
