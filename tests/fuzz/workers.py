# SPDX-License-Identifier: Apache-2.0
"""Targets that are what workers of a pool and its template say.

The bodies of a Python worker's answers are pickles, which the pool trusts by definition: a worker runs what its pool's own
program gave it. What is fuzzed is what stands around them, and the lines of command workers, which are anybody's.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.runtime.pool_line import Speech


def answers(raw: bytes) -> str:
    """A Python worker's frames: however they are cut into reads, the same answers, and what was not said is no answer."""
    from supervisor.runtime.pool_line import Frames
    from supervisor.worker.wire import header

    whole, cut = _heard(Frames(), [raw]), _heard(Frames(), _pieces(raw))
    assert cut == whole
    said = b"".join([header(kind, number, len(body)) + body for kind, number, body in whole])
    assert raw.startswith(said)
    return f"{len(whole)} answers"


def lines(raw: bytes) -> str:
    """A command worker's lines, one task at a time: the answer to each is its line."""
    from supervisor.runtime.pool_line import Lines
    from supervisor.worker.wire import RESULT

    speech, heard, left = Lines(), 0, raw
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        assert speech.task(number, b"task") == (b"task\n",)
        said = _heard(speech, _pieces(line + b"\n"))
        assert said == [(RESULT, number, line)], said
        heard, left = number, left[len(line) + 1 :]
    speech.feed(left)
    speech.feed(b"a line that nobody asked for\n")
    raise AssertionError(f"it was taken after {heard} lines")


def _pieces(raw: bytes) -> list[bytes]:
    rng, pieces = random.Random(raw), []
    while raw:
        size = rng.choice((1, 7, 16, 17, 5000, 1 << 16))
        pieces.append(raw[:size])
        raw = raw[size:]
    return pieces


def _heard(speech: Speech, pieces: list[bytes]) -> list[tuple[int, int, bytes]]:
    heard: list[tuple[int, int, bytes]] = []
    for piece in pieces:
        heard += [(kind, number, bytes(body)) for kind, number, body in speech.feed(piece)]
    return heard


def template(raw: bytes) -> str:
    """A template's answers to two requests, a packet a line: each request is answered once, whatever is said."""
    with asyncio.Runner() as runner:
        return runner.run(_template(raw))


async def _template(raw: bytes) -> str:
    from supervisor.kernel.native import STAGES
    from supervisor.runtime.pool_template import Template
    from supervisor.worker.wire import TEMPLATE_READY

    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    no_job: Any = None
    made = Template(no_job, ours)
    try:
        theirs.send(TEMPLATE_READY)
        with open(os.devnull, "rb") as passed:  # not its own end: the kernel lets go of a socket that lies in itself when it likes
            asked = [made.fork(b"block", (passed.fileno(),)) for _ in range(2)]
        for packet in raw.split(b"\n")[:8]:
            try:
                theirs.send(packet)
            except OSError:
                break
        theirs.close()
        async with asyncio.timeout(120):
            replies = [await reply for reply in asked]
    finally:
        theirs.close()
        made.close()
    assert not unheard, unheard
    assert all(stage in range(len(STAGES)) and (pid > 0 or number > 0) for pid, stage, number, _ in replies), replies
    return str([(pid > 0, number == 0) for pid, _, number, _ in replies])
