# SPDX-License-Identifier: Apache-2.0
"""An exchange whose members are killed and started again: at least once, duplicates marked, requests answered or broken at once."""

from __future__ import annotations

import asyncio
import random
import sys

from supervisor import BrokenError, Exchange, Job, ReplyError
from tests.stress.ground import Broken, Ground

NAMES = ("a", "b", "c")
#: Says of each message what it was and whether it may have come before; every tenth goes on to a neighbour.
PEER = """
import supervisor
peer = supervisor.connect()
for message in peer:
    body = bytes(message.body)
    if message.error is not None:
        continue
    if message.wants_reply:
        peer.reply(message, body[::-1])
    elif message.sender:
        peer.send(b"from %s %s" % (message.sender.encode(), body))
    elif body.startswith(b"@"):
        to, _, rest = body[1:].partition(b" ")
        peer.send(rest, to=to.decode())
    else:
        peer.send(b"%d %s" % (message.resent, body))
"""
FILL = b"x" * 200
LARGE = b"y" * 100_000


class Ledger:
    """What was sent to each member as which number, and how often each came back, marked or not."""

    def __init__(self) -> None:
        self.sent = dict.fromkeys(NAMES, 0)
        self.back: dict[str, dict[int, list[int]]] = {name: {} for name in NAMES}
        self._first: dict[str, int] = dict.fromkeys(NAMES, 0)

    def note(self, name: str, resent: int, number: int) -> None:
        """One came back. Raises :class:`Broken`."""
        seen = self.back[name].setdefault(number, [0, 0])
        if not any(seen):
            if number != self._first[name] + 1:
                raise Broken(f"{name}: message {number} came back for the first time after {self._first[name]}")
            self._first[name] = number
        seen[resent] += 1
        if seen[0] > 1:
            raise Broken(f"{name}: message {number} came twice and was not marked")

    def settle(self) -> bool:
        """Everything came back."""
        return all(self._first[name] == self.sent[name] for name in NAMES)


async def act(ground: Ground) -> None:
    """Members that are kept alive, messages and requests to each of them, and a reader of what comes back."""
    own: dict[str, Job] = {}
    ledger = Ledger()
    async with Exchange() as exchange:
        keepers = [asyncio.ensure_future(_keep(ground, exchange, name, own)) for name in NAMES]
        reader = asyncio.ensure_future(_read(ground, exchange, ledger))
        try:
            with ground.killer.hunting("peer", own.values):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_watch([reader, *keepers], ground))
                    for name in NAMES:
                        group.create_task(_send(ground, exchange, name, ledger, ground.chance(f"send {name}")))
                        group.create_task(_ask(ground, exchange, name, ground.chance(f"ask {name}")))
                    group.create_task(_tell_all(ground, exchange, ground.chance("tell")))
            await ground.within("the last messages to come back", _settled(ledger, reader))
        finally:
            for task in (*keepers, reader):
                task.cancel()
            results = await asyncio.gather(*keepers, reader, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
    for job in own.values():
        await ground.within("kill", job.kill())


async def _watch(tasks: list[asyncio.Task[None]], ground: Ground) -> None:
    """What goes wrong in the background ends the round now."""
    while not ground.over:
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.05)


async def _settled(ledger: Ledger, reader: asyncio.Task[None]) -> None:
    while not ledger.settle():
        if reader.done():
            reader.result()
        await asyncio.sleep(0.02)


async def _keep(ground: Ground, exchange: Exchange, name: str, own: dict[str, Job]) -> None:
    """A member, and its successor whenever it ends."""
    while True:
        if name not in exchange.members or exchange.broken(name):
            job = own[name] = await exchange.start(ground.sup, name, [sys.executable, "-c", PEER], topics=["#all"])
            ground.counts["peers"] += 1
        outcome = await job.wait()
        ground.claim(ground.was_killed(outcome, job), f"member {name} ended by itself: {outcome.summary()}")
        while not exchange.broken(name):
            await asyncio.sleep(0)


async def _read(ground: Ground, exchange: Exchange, ledger: Ledger) -> None:
    async for message in exchange:
        word, _, rest = bytes(message.body).partition(b" ")
        if word in (b"0", b"1") and rest[:1].isdigit():
            ledger.note(message.sender, int(word), int(rest.split(b" ", 1)[0]))
        elif word == b"from":
            sender, _, rest = rest.partition(b" ")
            ground.claim(sender.decode() in NAMES and rest.startswith(sender), f"sent by {sender!r}, says {rest[:20]!r}")
        ground.counts["messages"] += 1


async def _send(ground: Ground, exchange: Exchange, name: str, ledger: Ledger, chance: random.Random) -> None:
    """Numbered messages to one member, and some for it to pass on."""
    while not ground.over:
        number = ledger.sent[name] + 1
        try:
            await ground.within("send", exchange.send(name, b"%d %s" % (number, LARGE if chance.random() < 0.01 else FILL)))
            ledger.sent[name] = number
            if chance.random() < 0.1:
                other = chance.choice([one for one in NAMES if one != name])
                await ground.within("send", exchange.send(name, f"@{other} {name} says".encode()))
        except BrokenError:
            await asyncio.sleep(0.01)
        except ValueError:
            await asyncio.sleep(0.01)  # not a member yet
        if chance.random() < 0.2:
            await asyncio.sleep(chance.uniform(0, 0.01))


async def _ask(ground: Ground, exchange: Exchange, name: str, chance: random.Random) -> None:
    while not ground.over:
        question = chance.randbytes(chance.randrange(1, 50))
        try:
            answer = await ground.within("request", exchange.request(name, question))
            ground.claim(bytes(answer.body) == question[::-1], "another answer than this request's")
            ground.counts["requests"] += 1
        except (BrokenError, ReplyError):
            ground.counts["requests broken"] += 1
            await asyncio.sleep(0.01)
        except ValueError:
            await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0, 0.005))


async def _tell_all(ground: Ground, exchange: Exchange, chance: random.Random) -> None:
    while not ground.over:
        took = await ground.within("broadcast", exchange.broadcast(b"to all", topic="#all"))
        ground.claim(set(took) <= set(NAMES), f"taken by {took}")
        ground.counts["broadcasts"] += 1
        await asyncio.sleep(chance.uniform(0.005, 0.05))
