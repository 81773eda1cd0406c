# SPDX-License-Identifier: Apache-2.0
"""Connection: one link driven by an event loop."""

from __future__ import annotations

import asyncio

from supervisor.errors import BrokenError
from supervisor.kernel.link import OUT_HIGH_BYTES, Link
from supervisor.runtime.turns import Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from supervisor.model.frames import Terms
    from supervisor.model.message import Message

#: What is gathered within one turn of the loop before it is written.
GATHERED_BYTES: Final = 32 << 10
#: An acknowledgement that nothing else carries is sent this late at most.
ACKNOWLEDGE_LATE_S: Final = 0.02
#: More than a socket holds at a job's end, a quarter of a megabyte each; whoever else holds it may still be writing.
READS_MAX: Final = 256


class Connection:
    """Owns one link and what the event loop watches for it.

    Wakes ``receivers`` when a message is there, ``senders`` when there may be room in the other side's window, and ``writers``, who
    need none, when all is written. When the other side is gone or breaks the rules, requests fail, ``on_end`` takes what a successor
    must get, and everybody is woken.
    """

    __slots__ = (
        "_loop",
        "_name",
        "_on_end",
        "_reading",
        "_timer",
        "_writing",
        "flush_is_due",
        "link",
        "outbox",
        "receivers",
        "senders",
        "writers",
    )

    def __init__(self, fd: int, terms: Terms, name: str, receivers: Turns, senders: Turns, on_end: Callable[[Connection], None]) -> None:
        """Takes over ``fd``; raises :class:`ConfigError` when it is no channel (``fd`` stays the caller's then)."""
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._on_end = on_end
        self.link = Link(fd, terms)
        self.outbox = self.link.outbox
        self.receivers = receivers
        self.senders = senders
        self.writers = Turns()
        self._reading = self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        #: Something is sure to be written at the end of this turn of the loop.
        self.flush_is_due = False

    def open(self) -> None:
        """State our terms, send what is queued, and listen."""
        self.link.acknowledge()
        self._flush()
        self._watch_reading()

    # ---- writing ----

    def schedule(self) -> None:
        """Write soon: everything that is sent within one turn of the loop goes together. Enough of it goes at once."""
        if self.outbox.queued_bytes > GATHERED_BYTES:
            if not self._writing:
                self._flush()
        elif not self.flush_is_due:
            self.flush_is_due = True
            self._loop.call_soon(self._flush_turn)
        if self.senders:
            self.senders.wake()

    def _flush_turn(self) -> None:
        self.flush_is_due = False
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        """Write what the socket takes; the rest goes when it is writable."""
        link = self.link
        if link.fileno() < 0:
            return
        done = link.flush()
        if link.broken:
            self._end()
        elif done and self._writing:
            self._writing = False
            self._loop.remove_writer(link.fileno())
            self._watch_reading()
            self.senders.wake()
            self.writers.wake_all()
        elif not done and not self._writing:
            self._writing = True
            self._loop.add_writer(link.fileno(), self._flush)

    async def drain(self) -> None:
        """Until everything that was sent is written, or the connection is over."""
        self._flush()
        while self._writing:
            await self.writers.wait()

    # ---- reading ----

    def answer_to(self, number: int) -> asyncio.Future[Message]:
        """The future of the answer to our message ``number``; it has failed when the connection ended as that was written."""
        answer: asyncio.Future[Message] = self._loop.create_future()
        self.link.pending[number] = answer
        answer.add_done_callback(lambda _: self.link.pending.pop(number, None))
        if self.link.broken:
            self._fail_pending()
        return answer

    def ask_for_more(self) -> None:
        """The application wants the next message: what it is done with is acknowledged now or soon."""
        link = self.link
        if link.settle():
            link.acknowledge()
            self.schedule()
        elif not link.inbox and link.unsaid and self._timer is None and not link.broken:
            self._timer = self._loop.call_later(ACKNOWLEDGE_LATE_S, self.acknowledge)

    def acknowledge(self) -> None:
        """Acknowledge now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.link.acknowledge()
        self._flush()

    def _watch_reading(self) -> None:
        """Read while not too much waits to be written: whoever asks and does not listen is asked to wait."""
        wanted = not self.link.broken and self.outbox.queued_bytes <= OUT_HIGH_BYTES
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self.link.fileno(), self.read)
            else:
                self._loop.remove_reader(self.link.fileno())

    def read_out(self) -> None:
        """Take all that is there, however much: nobody is left to send more."""
        for _ in range(READS_MAX):
            if not self.read():
                return

    def read(self) -> bool:
        """Take what is there, as much as one turn of the loop may take; True when there may be more."""
        link = self.link
        more = link.fill()
        if link.answered:
            for answer, message in link.answered:
                if not answer.done():
                    answer.set_result(message)
            link.answered.clear()
        if link.inbox:
            self.receivers.wake_all()
        if self.senders:
            self.senders.wake()
        if link.broken:
            self._end()
            return False
        if self.outbox.queue and not self._writing:  # what an earlier connection left, now that there is room
            self.schedule()
        if self.outbox.queued_bytes > OUT_HIGH_BYTES:
            self._watch_reading()
        return more

    # ---- the end ----

    def fail(self, reason: str) -> None:
        """End the connection; without effect on one that is over."""
        if not self.link.broken:
            self.link.fail(reason)
            self._end()

    def _end(self) -> None:
        link, loop = self.link, self._loop
        if link.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reading:
            loop.remove_reader(link.fileno())
        if self._writing:
            loop.remove_writer(link.fileno())
        self._reading = self._writing = False
        self._on_end(self)
        link.close()
        self._fail_pending()
        self.receivers.wake_all()
        self.senders.wake_all()
        self.writers.wake_all()

    def _fail_pending(self) -> None:
        """Nobody answers any more."""
        pending = list(self.link.pending.values())
        self.link.pending.clear()
        for answer in pending:
            if not answer.done():
                answer.set_exception(BrokenError(self.link.broken, self._name))
                answer.exception()  # whoever does not look is no error of ours
