# SPDX-License-Identifier: Apache-2.0
"""Bytes through pipes, from job to job, collected and captured to files: exact, or the beginning of what was killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from supervisor import DEVNULL, PIPE, Capture, Job
from tests.stress.ground import Ground

SEQ = b"".join(b"%d\n" % number for number in range(1, 30_001))
SIZE = 300_000
MOST = 65_536


async def act(ground: Ground) -> None:
    """One way after the other, two at once."""
    own: set[Job] = set()
    with ground.killer.hunting("stream", lambda: own):
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(_one_by_one(ground, own, ground.chance(f"streams {number}")))


async def _one_by_one(ground: Ground, own: set[Job], chance: random.Random) -> None:
    while not ground.over:
        way = chance.choice(WAYS)
        await way(ground, own, chance)
        ground.counts["streams"] += 1
        own.difference_update([job for job in own if job.ended])


async def _through_pipes(ground: Ground, own: set[Job], chance: random.Random) -> None:
    """``cat``, fed and read at the same time."""
    data = chance.randbytes(chance.randrange(SIZE))
    job = await ground.within("start", ground.sup.start(["/bin/cat"], stdin=PIPE, stdout=PIPE))
    own.add(job)
    found, _ = await ground.within("communicate", job.communicate(data))
    _check(ground, job, found or b"", data)


async def _from_job_to_job(ground: Ground, own: set[Job], chance: random.Random) -> None:
    first = await ground.within("start", ground.sup.start(["/usr/bin/seq", "30000"], stdout=PIPE))
    own.add(first)
    second = await ground.within("start", ground.sup.start(["/bin/cat"], stdin=first.stdout, stdout=PIPE))
    own.add(second)
    assert second.stdout is not None
    found = await ground.within("read", second.stdout.read())
    whole = ground.check_end(first, await ground.within("wait", first.wait()), ("ok", "signaled"))  # SIGPIPE, when the second was killed
    await ground.within("wait", second.wait())
    if _check(ground, second, found, SEQ if whole else found):
        ground.claim(SEQ.startswith(found), "what came through two jobs is not what the first wrote")


async def _collected(ground: Ground, own: set[Job], chance: random.Random) -> None:
    job = await ground.within("start", ground.sup.start(["/usr/bin/seq", "30000"], capture_output=True, stdin=DEVNULL))
    own.add(job)
    outcome = await ground.within("wait", job.wait())
    ground.claim(outcome.usage.stdout_bytes == len(outcome.stdout), "collected bytes are not those counted")
    _check(ground, job, outcome.stdout, SEQ)


async def _captured(ground: Ground, own: set[Job], chance: random.Random) -> None:
    """Into files that are rotated."""
    path = ground.path()
    job = await ground.within("start", ground.sup.start(["/usr/bin/seq", "30000"], stdout=Capture(path, max_bytes=MOST, keep=99)))
    own.add(job)
    outcome = await ground.within("wait", job.wait())
    old = sorted(path.parent.glob(f"{path.name}.*"), key=lambda one: -int(one.suffix[1:]))
    found = b"".join([file.read_bytes() for file in (*old, path)])
    ground.claim(outcome.usage.stdout_bytes == len(found), f"{len(found)} bytes in files, {outcome.usage.stdout_bytes} counted")
    ground.claim(all(file.stat().st_size == MOST for file in old), "a rotated file has another size")
    for file in (*old, path):
        file.unlink()
    _check(ground, job, found, SEQ)


def _check(ground: Ground, job: Job, found: bytes, whole: bytes) -> bool:
    """Everything, or of a killed job the beginning."""
    assert job.outcome is not None
    if ground.check_end(job, job.outcome, ("ok",)):
        ground.claim(found == whole, f"{len(found)} bytes instead of {len(whole)}, or others: {job.outcome}")
        return True
    ground.claim(whole.startswith(found), "what a killed job wrote is not the beginning of what it would have written")
    return False


WAYS: tuple[Callable[[Ground, set[Job], random.Random], Awaitable[None]], ...] = (_through_pipes, _from_job_to_job, _collected, _captured)
