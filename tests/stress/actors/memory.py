# SPDX-License-Identifier: Apache-2.0
"""Rings and segments shared with jobs that are killed in the middle of a message: what is read is whole and in order."""

from __future__ import annotations

import asyncio
import random
import sys

from supervisor import BrokenError, Job, SharedMemory
from tests.stress.ground import Ground

ECHO = """
from supervisor import SharedMemory
counts = SharedMemory.open("counts")
answers = SharedMemory.open_writer("answers")
for message in SharedMemory.open_reader("questions"):
    answers.write(message.upper())
    counts.buffer[0] = (counts.buffer[0] + 1) & 255
answers.close()
"""
MESSAGES = 3000


async def act(ground: Ground) -> None:
    """One job after the other, with new memory each."""
    own: set[Job] = set()
    chance = ground.chance("memory")
    with ground.killer.hunting("memory", lambda: own):
        while not ground.over:
            await _talk(ground, own, chance)
            own.clear()
            ground.counts["rings"] += 1


async def _talk(ground: Ground, own: set[Job], chance: random.Random) -> None:
    with (
        SharedMemory.create("counts", 64, grant="rw") as counts,
        SharedMemory.create_ring("questions", "64K") as questions,
        SharedMemory.create_ring("answers", "64K") as answers,
    ):
        ask, hear = questions.writer(), answers.reader()
        hand = SharedMemory.hand_over(counts.grant("rw"), questions.grant_reader(), answers.grant_writer())
        job = await ground.within("start", ground.sup.start([sys.executable, "-c", ECHO], pass_fds=hand.pass_fds, env=hand.env))
        own.add(job)
        questions.release()
        answers.release()
        sent = [b"%d %s" % (number, b"q" * chance.randrange(100)) for number in range(MESSAGES)]

        async def put() -> bool:
            try:
                await ask.put_many(sent)
            except BrokenError:
                return False
            finally:
                ask.close()
            return True

        async def get() -> list[bytes]:
            found: list[bytes] = []
            try:
                async for message in hear:
                    found.append(message)
            except BrokenError:
                pass
            return found

        try:
            put_all, found = await ground.within("ring", asyncio.gather(put(), get()))
            outcome = await ground.within("wait", job.wait())
            whole = ground.check_end(job, outcome, ("ok",))
            ground.claim(found == [message.upper() for message in sent[: len(found)]], "a ring gave what was not written")
            ground.claim(not whole or (put_all and len(found) == MESSAGES), f"{len(found)} of {MESSAGES} messages through a ring")
            ground.claim(not whole or counts.buffer[0] == MESSAGES & 255, "a segment was not written")
        finally:
            hear.close()
            await ground.within("kill", job.kill())
