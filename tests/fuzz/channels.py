# SPDX-License-Identifier: Apache-2.0
"""Targets that are what a job sends over its channel: frames, packets with descriptors, members of an exchange, objects.

Pickle is no target: unpickling runs what the sender likes by definition, and is done only when the receiver names it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from supervisor.errors import BrokenError
from supervisor.model import frames
from supervisor.model.frames import Terms

if TYPE_CHECKING:
    from supervisor.kernel.link import Link
    from supervisor.runtime.channel import Channel
    from supervisor.runtime.exchange import Exchange

#: Small, so that inputs get to their ends.
TERMS: Final = Terms(window_messages=8, window_bytes=frames.PACKET_MAX_BYTES, message_max_bytes=frames.INLINE_MAX_BYTES)
#: Sizes of the memory that the other side passes on, and whether it is sealed. The last two may be a lane.
MEMORIES: Final = ((0, True), (8, True), (1 << 16, True), (1 << 17, True), (8, False), (frames.LANE_BYTES, True), (frames.LANE_BYTES, True))
#: More than the kernel passes at once is refused there.
DESCRIPTORS_SENT_MAX: Final = 80
SEALS: Final = 0xF


def frames_of(raw: bytes) -> str:
    """Frames to tuples and back: what is taken means exactly these bytes."""
    found = frames.decode(raw, 0, len(raw))
    parts = [
        frames.encode(kind, flags, number, address.encode(), len(body), count) + body for kind, flags, number, address, body, count in found
    ]
    assert b"".join(parts) == raw
    for kind, flags, _, _, body, _ in found:
        if kind == frames.ACK:
            frames.decode_ack(body)
        elif flags & frames.ERROR:
            frames.decode_error(body)
    return f"{len(found)} frames"


def objects(raw: bytes) -> str:
    """A body as an object, by the codec that does not trust its sender."""
    from supervisor.model.codec import MSGPACK

    return type(MSGPACK.decode(raw)).__name__


# ---- packets with descriptors, in any order, while we send and receive ----


class _Script:
    """Reads steps: a letter, then what it needs; a script that ends in the middle of a step has zeros there."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0
        self.packet = b""

    def __iter__(self) -> Iterator[str]:
        while self._at < len(self._raw):
            yield chr(self.number())

    def take(self, count: int) -> bytes:
        taken = self._raw[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def number(self) -> int:
        return self.take(1)[0]

    def add(self, piece: bytes) -> None:
        """To the packet, which may be a little too long."""
        if len(self.packet) <= frames.PACKET_MAX_BYTES:
            self.packet += piece

    def frame(self) -> None:
        """One more frame of the packet, whose size is right."""
        kind, flags, descriptors, number, address, body = self.take(6)
        self.add(frames.encode(kind, flags, number, self.take(address), body, descriptors) + self.take(body))

    def wide_frame(self) -> None:
        """One with a body of hundreds of bytes, or a large number."""
        kind, flags, descriptors, number, size = self.take(5)
        self.add(frames.encode(kind, flags, number << 56 | number, b"", size << 8, descriptors) + bytes(size << 8))

    def lane_frame(self) -> None:
        """A lane's memory, a word about one, or a body in it."""
        what, number, size, part = self.take(4)
        if what < 64:
            self.add(frames.encode_lane(frames.LANE_MEMORY, body=frames.LANE_BYTES.to_bytes(8, "little"), descriptors=1))
        elif what < 96:
            self.add(frames.encode_lane(frames.LANE_TAKEN, number << 8))
        elif what < 128:
            self.add(frames.encode_lane(frames.LANE_OFFER, body=(size << 10).to_bytes(8, "little")))
        elif what < 160:
            self.add(frames.encode_lane(frames.LANE_PART, body=frames.LANE_PLACE.pack(size << 8, part << 8)))
        else:
            self.add(frames.laid(frames.encode(frames.DATA, what & 3, number, b"", 0), size << 8, part << 8))

    def plays(self, step: str, far: _Hostile) -> bool:
        """The step is the far end's, and done: it makes a packet, or sends it with descriptors."""
        if step == "f":
            self.frame()
        elif step == "w":
            self.wide_frame()
        elif step == "l":
            self.lane_frame()
        elif step == "r":
            self.add(self.take(self.number()))
        elif step == "s":
            far.send(self.packet, *self.take(2))
            self.packet = b""
        else:
            return False
        return True


def _memory(size: int, sealed: bool) -> int:
    import fcntl

    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


class _Hostile:
    """Owns the far end of a channel and what it passes on."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._memory = [_memory(size, sealed) for size, sealed in MEMORIES]
        with open(self._memory[-1], "rb") as readable:  # the last can only be written
            self._memory[-1] = os.open(f"/proc/self/fd/{readable.fileno()}", os.O_WRONLY | os.O_CLOEXEC)

    def send(self, packet: bytes, descriptors: int, memory: int) -> None:
        fds = [self._null] * (descriptors % DESCRIPTORS_SENT_MAX)
        if fds and memory < len(self._memory):
            fds[0] = self._memory[memory]
        try:
            socket.send_fds(self._end, [packet], fds)
        except OSError:
            pass  # full, or closed at the other side

    def close(self) -> None:
        self._end.close()
        for fd in (self._null, *self._memory):
            os.close(fd)


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def link(raw: bytes) -> str:
    """One end of a channel while the other side does what it likes: bounded, no descriptor lost, an end that says why."""
    from supervisor.kernel.link import Link
    from supervisor.kernel.packet_socket import make_pair

    before = _open_descriptors()
    ours, theirs = make_pair()
    end, far = Link(ours, TERMS, lanes=bool(raw[:1] < b"\x80")), _Hostile(socket.socket(fileno=theirs))
    script = _Script(raw)
    try:
        for step in script:
            _step(step, script, end, far)
            _check_bounds(end)
        end.fill()
        _check_bounds(end)
        said = f"{len(end.inbox)} {len(end.answered)} {end.broken}"
    finally:
        far.close()
        end.close()
        end.inbox.clear()
        end.answered.clear()
    assert _open_descriptors() == before, "descriptors were lost"
    return said


def _step(step: str, script: _Script, end: Link, far: _Hostile) -> None:
    if script.plays(step, far):
        return
    if step == "F":
        end.fill()
    elif step == "T" and end.inbox:
        message = end.take()
        _look_at(message)
        if message.wants_reply and not end.broken:
            end.answer(message, b"yes")
    elif step == "A":
        end.settle()
        end.acknowledge()
        end.flush()
    elif step in "PQ" and not end.broken and end.outbox.has_room(1):
        number = end.outbox.post(frames.DATA, b"?", frames.REQUEST if step == "Q" else 0)
        if step == "Q":
            end.pending[number] = number
        end.flush()


def _look_at(message: object) -> None:
    from supervisor.model.message import Message

    assert isinstance(message, Message)
    assert len(message.body) == message.size
    assert message.kind in frames.KINDS
    assert message.error is None or len(message.error[1]) <= frames.ERROR_TEXT_MAX_BYTES


def _check_bounds(end: Link) -> None:
    """What a hostile job makes us hold. The packet that broke the rules may have come on top."""
    fds = sum(len(message.descriptors) + (message.sealed is not None) for message in end.inbox)
    assert fds <= frames.DESCRIPTORS_IN_FLIGHT + (frames.DESCRIPTORS_MAX if end.broken else 0), f"{fds} descriptors are held"
    if not end.broken:
        messages = [message for message in end.inbox if message.error is None]
        assert max(len(messages), len(end.inbox) - len(messages)) <= max(TERMS.window_messages, frames.FIRST_MESSAGES)
        assert sum(message.frame_bytes for message in messages) <= TERMS.window_bytes
        assert all(message.size <= TERMS.message_max_bytes for message in messages)


# ---- members of an exchange ----


def exchange(raw: bytes) -> str:
    """A hostile member of an exchange: it is never taken for another, and nobody else suffers."""
    with asyncio.Runner() as runner:
        return runner.run(_exchange(raw))


async def _exchange(raw: bytes) -> str:
    from supervisor.kernel.packet_socket import make_pair
    from supervisor.runtime.channel import Channel
    from supervisor.runtime.exchange import Exchange

    unheard: list[object] = []
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with asyncio.timeout(120), Exchange(terms=TERMS, patience=0) as made, Channel("good") as good:
        ours, theirs = make_pair()
        made.add("good", ours, topics=["#t"])
        good.connect(theirs)
        ours, theirs = make_pair()
        made.add("bad", ours, topics=["#t"])
        far = _Hostile(socket.socket(fileno=theirs))
        tasks = [asyncio.create_task(_supervise(made, said)), asyncio.create_task(_answer_all(good))]
        try:
            await _play(_Script(raw), made, good, far)
            answer = await good.request(b"alive")
            assert answer.body == b"alive" and not made.broken("good")
        finally:
            far.close()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert not failed, failed
        broken = made.broken("bad")
    assert not unheard, unheard
    return f"{len(said)} {broken}"


async def _supervise(made: Exchange, said: list[str]) -> None:
    """Receive and answer; whatever comes from the good member is what it sent."""
    async for message in made:
        assert message.sender == "bad" or (message.sender == "good" and message.body in (b"alive", b"hello")), message
        said.append(message.sender)
        if message.wants_reply:
            try:
                await made.reply(message, message.body)
            except BrokenError:
                assert message.sender == "bad"


async def _answer_all(good: Channel) -> None:
    while True:
        message = await good.receive()
        assert message.error is not None or message.sender in ("", "bad"), message
        if message.wants_reply:
            await good.reply(message, b"yes")


async def _play(script: _Script, made: Exchange, good: Channel, far: _Hostile) -> None:
    asked = []
    for step in script:
        if script.plays(step, far):
            continue
        if step == "Y":
            for _ in range(4):
                await asyncio.sleep(0)
        elif step == "G":
            await good.send(b"hello", to="bad")
        elif step == "H":
            await good.send(b"hello")
        elif step == "Q":
            asked.append(await good.ask(b"?", to="bad"))
        elif step == "B":
            await made.broadcast(b"all", topic="#t")
    for _ in range(4):
        await asyncio.sleep(0)
    for answer in asked:
        answer.cancel()
