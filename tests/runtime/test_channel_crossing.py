# SPDX-License-Identifier: Apache-2.0
"""Two ends that both send much, ask much and read: neither waits for the other for ever, and each gets all in order."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from peers import LONG

from supervisor import Channel, Terms
from supervisor.kernel.packet_socket import make_pair
from supervisor.model.frames import JOB_TERMS, REPLY

#: Little, as where net.core.wmem_max is: what waits to be written waits in our memory.
SOCKET_BYTES = 64 << 10
REQUESTS = 60
NO_LANES = Terms(lane_max_bytes=0)
SIZES = [5 << 20, 100, 60_000, 9 << 20, 20_000, 3_000] * 3


async def two_channels(ours: Terms, theirs: Terms) -> tuple[Channel, Channel]:
    """A supervisor's end and that of a job with an event loop, which have spoken of lanes."""
    ends = make_pair()
    for fd in ends:
        with socket.socket(fileno=fd) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.detach()
    a, b = Channel("job", ours), Channel("supervisor", theirs)
    b._lanes = True
    a.connect(ends[0])
    b.connect(ends[1])
    await b.send(b"here")
    await a.receive()
    await a.send(b"here")
    await b.receive()
    return a, b


async def talk(channel: Channel, bodies: list[bytes], answer: bytes, at_once: bool) -> list[int]:
    """Send the bodies and ask at the same time, and answer the other side meanwhile; the sizes of the messages that came.

    ``at_once``: as an exchange answers, which waits for nothing.
    """
    found: list[int] = []
    async with asyncio.TaskGroup() as tasks:

        async def listen() -> None:
            for _ in range(len(bodies) + REQUESTS):
                message = await channel.receive()
                if message.wants_reply and at_once:
                    channel.pass_answer(message, answer, REPLY, ())
                elif message.wants_reply:
                    tasks.create_task(channel.reply(message, answer))
                else:
                    found.append(message.size)

        async def ask() -> None:
            assert (await channel.request(b"?")).size == len(answer)

        tasks.create_task(listen())
        tasks.create_task(channel.send_many(bodies))
        for _ in range(REQUESTS):
            tasks.create_task(ask())
    return found


async def both(ours: Terms, theirs: Terms, sizes: list[int], answer_bytes: int, at_once: bool = False) -> None:
    a, b = await two_channels(ours, theirs)
    bodies = [bytes(size) for size in sizes]
    async with a, b, asyncio.timeout(LONG):
        answer = bytes(answer_bytes)
        found = await asyncio.gather(talk(a, bodies, answer, at_once), talk(b, bodies, answer, at_once))
    assert list(found) == [sizes, sizes]


def on_uvloop(call: str) -> None:
    """In a process of its own: uvloop keeps a pipe for ever."""
    code = f"import sys; sys.path[:] = {sys.path!r}\nimport uvloop\nfrom {__name__} import *\nuvloop.run({call})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=2 * LONG)


@pytest.mark.parametrize("answer_bytes", [100, 60_000, 1 << 20])
@pytest.mark.parametrize(("ours", "theirs"), [(Terms(), JOB_TERMS), (JOB_TERMS, JOB_TERMS)])
async def test_large_bodies_and_answers_of_any_size_may_cross(answer_bytes: int, ours: Terms, theirs: Terms) -> None:
    await both(ours, theirs, SIZES, answer_bytes)


@pytest.mark.parametrize("at_once", [False, True])
async def test_answers_may_cross_that_are_more_than_both_sides_keep_back(at_once: bool) -> None:
    """Each side has more answers than it writes at once, and gets rid of them only while the other one reads."""
    await both(NO_LANES, NO_LANES, [], 60_000, at_once)


@pytest.mark.requires("uvloop")
@pytest.mark.parametrize("call", ["both(JOB_TERMS, JOB_TERMS, SIZES, 60_000)", "both(NO_LANES, NO_LANES, [], 60_000, at_once=True)"])
def test_uvloop_carries_what_crosses_too(call: str) -> None:
    on_uvloop(call)


async def test_a_small_answer_goes_in_its_place_behind_a_large_body_that_waits_for_room() -> None:
    a, b = await two_channels(Terms(), JOB_TERMS)
    async with a, b, asyncio.timeout(LONG):
        asked = await b.ask(b"?")
        request = await a.receive()
        assert a._connection is not None and b._connection is not None
        await a.send(bytes(9 << 20))
        assert a._connection.outbox.lane.blocked
        await a.reply(request, b"!")
        await asked
        assert [message.size for message in b._connection.link.inbox] == [9 << 20], "it was there before"
