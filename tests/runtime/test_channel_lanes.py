# SPDX-License-Identifier: Apache-2.0
"""Large bodies between a supervisor and its job by shared memory: whole, once more after a restart, and nothing kept when idle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import LONG, peer_program

from supervisor import BrokenError, Channel, Exchange, Peer, Supervisor, Terms, TimedOutError
from supervisor.kernel.packet_socket import make_pair
from supervisor.model.frames import JOB_TERMS
from supervisor.runtime import connection

LARGE = 9_000_001


async def test_large_bodies_go_to_the_job_by_lane_and_come_back_in_its_own_memory() -> None:
    body = os.urandom(LARGE)
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        await channel.start(sup, peer_program())
        for _ in range(3):
            await channel.send(body)
        for _ in range(3):
            message = await channel.receive()
            assert message.sealed is not None, "a job does not fill its supervisor's memory"
            assert message.body == body
        assert channel._connection is not None
        assert channel._connection.outbox.lane.memory is not None


async def test_a_body_that_was_half_in_the_lane_goes_whole_to_the_successor() -> None:
    body = os.urandom(LARGE)
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        job = await channel.start(sup, peer_program())
        await channel.request(b"hello")
        await channel.send(b"stop reading")
        await channel.send(body)
        await job.kill()
        await job.wait()
        with pytest.raises(BrokenError):
            while True:
                await channel.receive()
        seen = "import supervisor\npeer = supervisor.connect()\nfor m in peer:\n    peer.send(m.body) if m.resent and m.size > 99 else None"
        await channel.start(sup, peer_program(seen))
        assert (await channel.receive()).body == body


async def test_a_successor_without_lanes_gets_it_sealed() -> None:
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        job = await channel.start(sup, peer_program())
        await channel.request(b"hello")
        await channel.send(b"stop reading")
        await channel.send(bytes(LARGE))
        await job.kill()
        await job.wait()
        with pytest.raises(BrokenError):
            while True:
                await channel.receive()
        old = (
            "import supervisor\npeer = supervisor.connect(supervisor.Terms(lane_max_bytes=0))\n"
            "for m in peer:\n    peer.send(str(m.sealed is not None).encode()) if m.size > 99 else None"
        )
        await channel.start(sup, peer_program(old))
        assert (await channel.receive()).body == b"True"


async def test_an_idle_lane_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LANE_IDLE_S", 0.01)
    async with Supervisor() as sup, Channel() as channel, asyncio.timeout(LONG):
        await channel.start(sup, peer_program())
        for _ in range(2):
            await channel.request(b"hello")
            await channel.send(bytes(100_000))
            await channel.receive()
            assert channel._connection is not None
            lane = channel._connection.outbox.lane.memory
            assert lane is not None
            while lane.in_use:
                await channel.request(b"hello")
        assert channel._connection is not None
        assert channel._connection._idle_timer is None, "an idle supervisor does not wake"


async def test_what_goes_through_an_exchange_is_carried_on_without_a_copy() -> None:
    async with Supervisor() as sup, Exchange() as exchange, asyncio.timeout(LONG):
        await exchange.start(sup, "a", peer_program())
        await exchange.start(
            sup, "b", peer_program("import supervisor\nfor m in (p := supervisor.connect()):\n    p.send(repr(m.sealed).encode())")
        )
        await exchange.send("a", b"@b:" + bytes(LARGE))
        assert b"Sealed" in bytes((await exchange.receive()).body)


async def test_a_cancelled_send_leaves_the_channel_whole() -> None:
    body = os.urandom(LARGE)
    async with Supervisor() as sup, Channel(terms=Terms()) as channel, asyncio.timeout(LONG):
        await channel.start(sup, peer_program())
        await channel.request(b"hello")
        tasks = [asyncio.create_task(channel.send(body)) for _ in range(6)]
        await asyncio.sleep(0)
        tasks[5].cancel()
        tasks.append(asyncio.create_task(channel.send(b"end")))
        found = []
        while (message := await channel.receive()).size > 3:
            assert message.body == body
            found.append(message.number)
        assert tasks[5].cancelled()
        assert len(found) == 5


@asynccontextmanager
async def stuck() -> AsyncIterator[tuple[Channel, Peer]]:
    """A channel whose lane is full, and the other end, which does not read; two large bodies are on their way."""
    first, second = make_pair()
    with Peer(second, JOB_TERMS, lanes=True) as peer:
        async with Channel() as channel, asyncio.timeout(LONG):
            channel.connect(first)
            peer.send(b"here")
            await channel.receive()
            for at in (1, 2):
                await channel.send(bytes([at]) * LARGE)
            assert channel._connection is not None
            while not channel._connection.outbox.lane.blocked:
                await asyncio.sleep(0)
            yield channel, peer


async def test_whoever_waits_for_room_in_a_full_lane_can_give_up() -> None:
    async with stuck() as (channel, peer):
        with pytest.raises(TimedOutError, match="nothing was sent"):
            await channel.send(bytes(LARGE), timeout=0.01)
        gives_up = asyncio.create_task(channel.send(bytes(LARGE)))
        stays = asyncio.create_task(channel.send(b"\3" * LARGE))
        await asyncio.sleep(0)
        gives_up.cancel()
        for at in (1, 2, 3):
            message = await asyncio.to_thread(peer.receive)
            assert message.body == bytes([at]) * LARGE
        await stays
        assert gives_up.cancelled()


async def test_a_channel_with_a_full_lane_closes_in_time() -> None:
    async with stuck() as (channel, peer):
        await channel.aclose(timeout=0.01)
        with pytest.raises(BrokenError):
            await asyncio.to_thread(peer.receive)


async def test_closing_waits_until_a_full_lane_is_read() -> None:
    async with stuck() as (channel, peer):
        closing = asyncio.create_task(channel.aclose(timeout=LONG))
        for at in (1, 2):
            assert (await asyncio.to_thread(peer.receive)).body == bytes([at]) * LARGE
        await closing


async def test_many_channels_with_lanes_leave_no_descriptor_and_no_memory_behind() -> None:
    async def use_lanes() -> None:
        first, second = make_pair()
        a, b = Channel("job"), Channel("supervisor", JOB_TERMS)
        b._lanes = True
        async with a, b, asyncio.timeout(LONG):
            a.connect(first)
            b.connect(second)
            for _ in range(2):  # the first speaks of lanes
                await b.send(bytes(20_000))
                await a.receive()
                await a.send(bytes(100_000))
                await b.receive()
            assert all(end._connection is not None and end._connection.outbox.lane.memory for end in (a, b))

    def held() -> tuple[int, int]:
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), sum("memfd:" in line for line in maps)

    await use_lanes()
    before = held()
    for _ in range(10):
        await asyncio.gather(*(use_lanes() for _ in range(20)))
    assert held() == before
