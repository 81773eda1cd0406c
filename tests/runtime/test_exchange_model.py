# SPDX-License-Identifier: Apache-2.0
"""An exchange against a model: members that come, talk, stop in the middle of something and come back, in any order.

What must hold: the sender's name is true; of one sender to one receiver nothing is out of order, and nothing comes twice unless it is
marked; what was accepted arrives at the receiver or its successor, or its sender is told, unless that sender stopped before.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor import Channel, Exchange, Terms
from supervisor.kernel.packet_socket import make_pair

NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
TERMS = Terms(window_messages=8)  # small, so that the window matters
SIZES = st.sampled_from([0, 10, 5000, 70_000])


class ExchangeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.exchange = Exchange(patience=0.05, terms=TERMS)
        self.ends: dict[str, Channel] = {}
        self.count = 0
        #: What each receiver must still get of each sender, in order; and what it may get again.
        self.due: dict[tuple[str, str], list[int]] = {(to, sender): [] for to in NAMES for sender in (*NAMES, "")}
        self.had: dict[str, set[int]] = {name: set() for name in NAMES}
        #: Messages whose sender stopped before anybody knew that they had arrived.
        self.doubtful: set[int] = set()
        #: What a sender's message was, by the number it had on the wire.
        self.sent: dict[tuple[str, int], tuple[str, int]] = {}

    def run(self, what: object) -> object:
        async def bounded() -> object:
            async with asyncio.timeout(20):
                return await what  # type: ignore[misc]

        return self.runner.run(bounded())

    async def settle(self) -> None:
        """Let the loop turn until what is on its way has arrived, or cannot."""
        for _ in range(30):
            await asyncio.sleep(0)

    @rule(name=names)
    def join(self, name: str) -> None:
        if name in self.ends:
            return

        async def connect() -> None:
            while name in self.exchange.members and not self.exchange.broken(name):
                await asyncio.sleep(0)
            ours, theirs = make_pair()
            self.exchange.add(name, ours)
            self.ends[name] = Channel(name, TERMS)
            self.ends[name].connect(theirs)

        self.run(connect())

    @rule(name=names)
    def stop(self, name: str) -> None:
        """As if killed: nothing is flushed or acknowledged any more."""
        end = self.ends.pop(name, None)
        if end is None:
            return

        async def vanish() -> None:
            for (to, sender), due in self.due.items():
                if sender == name:
                    self.doubtful.update(due)
                    self.doubtful.discard(-1)
                assert to in NAMES
            end._connection.fail("stopped")  # type: ignore[union-attr]
            await end.aclose()

        self.run(vanish())

    @precondition(lambda self: self.ends)
    @rule(sender=names, to=names, size=SIZES)
    def send(self, sender: str, to: str, size: int) -> None:
        if sender == to or sender not in self.ends or to not in self.exchange.members:
            return
        self.count += 1
        number = self.count

        async def do() -> None:
            try:
                await self.ends[sender].send(b"%d %s" % (number, bytes(size)), to=to, timeout=0.2)
            except TimeoutError:
                return
            wire = self.ends[sender]._connection.outbox.last_number  # type: ignore[union-attr]
            self.sent[(sender, wire)] = (to, number)
            self.due[(to, sender)].append(number)

        self.run(do())

    @precondition(lambda self: self.ends)
    @rule(to=names)
    def send_from_above(self, to: str) -> None:
        if to not in self.ends or self.exchange.broken(to):
            return
        self.count += 1
        number = self.count

        async def do() -> None:
            try:
                await self.exchange.send(to, b"%d " % number, timeout=0.05)
            except TimeoutError:
                return
            self.due[(to, "")].append(number)

        self.run(do())

    @rule(name=names)
    def receive_all(self, name: str) -> None:
        """Everything that is there."""
        if name in self.ends:
            self.run(self.take(name))

    async def take(self, name: str) -> int:
        await self.settle()
        taken = 0
        end = self.ends[name]
        while end._connection.link.inbox:  # type: ignore[union-attr]
            message = await end.receive()
            taken += 1
            if message.error is not None:
                to, number = self.sent[(name, message.number)]
                assert message.error[0] in ("gone", "busy")
                self.due[(to, name)].remove(number)
                continue
            number = int(bytes(message.body).split(b" ")[0])
            due = self.due[(name, message.sender)]
            if message.resent and number in self.had[name]:
                continue  # once more, and it says so
            while due and due[0] != number and due[0] in self.doubtful:
                due.pop(0)
            assert due and due[0] == number, f"{name} got {number} of {message.sender!r}, due is {due[:5]}"
            due.pop(0)
            self.had[name].add(number)
        return taken

    @invariant()
    def no_member_is_connected_that_left(self) -> None:
        self.run(self.settle())
        for name in self.exchange.members:
            if name not in self.ends:
                assert self.exchange.broken(name)

    def teardown(self) -> None:
        async def end() -> None:
            for name in NAMES:
                if name not in self.ends and name in self.exchange.members:
                    ours, theirs = make_pair()
                    self.exchange.add(name, ours)
                    self.ends[name] = Channel(name, TERMS)
                    self.ends[name].connect(theirs)
            quiet = 0
            while quiet < 10:  # senders wait for room, and the exchange for patience
                took = [await self.take(name) for name in self.ends]
                quiet = 0 if any(took) else quiet + 1
                await asyncio.sleep(0.01)
            await self.exchange.aclose()
            for channel in self.ends.values():
                await channel.aclose()

        try:
            self.run(end())
            left = {pair: [number for number in due if number not in self.doubtful] for pair, due in self.due.items()}
            assert not any(left.values()), left
        finally:
            self.runner.close()


ExchangeMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestExchange = ExchangeMachine.TestCase
