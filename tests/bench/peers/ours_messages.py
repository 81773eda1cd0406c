# SPDX-License-Identifier: Apache-2.0
"""ours_messages MODE SIZE COUNT: messages between a supervisor and its job; whoever receives measures.

MODE: down, down-objects (supervisor to job), up, up-objects, up-many (job to supervisor), down-sealed (the same sealed memory each
time), down-copied (the receiver copies the body out), round-trip, round-trips-16 (sixteen requests under way).
"""

from __future__ import annotations

import asyncio
import sys
import time

import supervisor
from tests.bench.peers.message_figures import Figures, Trips, body_of

CHILD = "--child"


async def main(mode: str, size: int, count: int) -> None:
    """The supervisor's part."""
    body = body_of(size)
    async with supervisor.Supervisor() as sup, supervisor.Channel() as channel:
        job = await channel.start(sup, [sys.executable, "-m", "tests.bench.peers.ours_messages", CHILD, mode, str(size), str(count)])
        await channel.receive()
        if mode.startswith("round"):
            await trips(channel, body, count, 16 if mode.endswith("16") else 1)
            await channel.aclose()  # the job answers until then
        elif mode.startswith("up"):
            await channel.send(b"go")
            figures = Figures(size)
            for _ in range(count):
                message = await channel.receive()
                _ = message.object() if mode == "up-objects" else message.body
                figures.received()
            figures.report()
        elif mode == "down-sealed":
            with supervisor.Sealed(body) as sealed:
                for _ in range(count):
                    await channel.send(sealed)
        elif mode == "down-objects":
            for _ in range(count):
                await channel.send_object(body)
        else:
            for _ in range(count):
                await channel.send(body)
        await job.wait()


async def trips(channel: supervisor.Channel, body: bytes, count: int, at_once: int) -> None:
    """Requests, each answered before the next of the same task."""
    figures = Trips()

    async def ask(many: int) -> None:
        for _ in range(many):
            began = time.perf_counter_ns()
            await channel.request(body)
            figures.took(time.perf_counter_ns() - began)

    await ask(200)
    figures.begin()
    await asyncio.gather(*(ask(count // at_once) for _ in range(at_once)))
    figures.report()


def child(mode: str, size: int, count: int) -> None:
    """The job's part."""
    peer, body = supervisor.connect(), body_of(size)
    peer.send(b"here")
    if mode.startswith("round"):
        peer.serve(lambda message: message.body)
        return
    if mode.startswith("up"):
        peer.receive()
        if mode == "up-many":
            peer.send_many(body for _ in range(count))
        else:
            send = peer.send_object if mode == "up-objects" else peer.send
            for _ in range(count):
                send(body)
        return
    figures = Figures(size)
    for _ in range(count):
        message = peer.receive()
        if mode == "down-objects":
            message.object()
        elif mode == "down-copied":
            bytes(message.body)
        else:
            _ = message.body
        figures.received()
    figures.report()


if sys.argv[1] == CHILD:
    child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
