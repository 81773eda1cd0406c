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

#: An acknowledgement that nothing else carries is sent this late at most.
ACKNOWLEDGE_LATE_S: Final = 0.02
#: How often in one turn of the loop whoever sends may look for room by itself: other tasks shall have their turn, too.
EARLY_READS: Final = 8
#: The memory of a lane is given back when it was not used for this long.
LANE_IDLE_S: Final = 1.0
#: More than a socket holds at a job's end, a quarter of a megabyte each; whoever else holds it may still be writing.
READS_MAX: Final = 256


class Connection:
    """Owns one link and what the event loop watches for it.

    Wakes ``receivers`` when a message is there, ``senders`` when there may be room in the other side's window, and ``writers``, who
    need none, when most is written. When the other side is gone or breaks the rules, requests fail, ``on_end`` takes what a successor
    must get, and everybody is woken.
    """

    __slots__ = (
        "_early",
        "_idle_timer",
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

    def __init__(
        self,
        fd: int,
        terms: Terms,
        name: str,
        receivers: Turns,
        senders: Turns,
        on_end: Callable[[Connection], None],
        lanes: bool = False,
    ) -> None:
        """Takes over ``fd``; ``lanes``: its other end understands them.

        Raises :class:`ConfigError` when it is no channel (``fd`` stays the caller's then).
        """
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._on_end = on_end
        self.link = Link(fd, terms, lanes=lanes)
        self.outbox = self.link.outbox
        self.receivers = receivers
        self.senders = senders
        self.writers = Turns()
        self._reading = self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._early = EARLY_READS
        self._idle_timer: asyncio.TimerHandle | None = None
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
        if self.outbox.queued_bytes > self.outbox.enough_bytes:
            if not self._writing:
                self._flush()
        elif not self.flush_is_due:
            self.flush_is_due = True
            self._loop.call_soon(self._flush_turn)
        if self.senders:
            self.senders.wake()

    def hear_early(self) -> bool:
        """Write and read now, not with the next turn of the loop; False when it is no use, or enough for this turn."""
        if not self._early or self._writing or self.link.broken:
            return False
        self._early -= 1
        if not self.flush_is_due:
            self.flush_is_due = True
            self._loop.call_soon(self._flush_turn)
        self._flush()
        if self._reading:
            self.read()
        return not self.link.broken

    def _flush_turn(self) -> None:
        self.flush_is_due = False
        self._early = EARLY_READS
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        """Write what the socket and our lane take; the rest goes when the one is writable, or the other side has read the other."""
        link = self.link
        if link.fileno() < 0:
            return
        done = link.flush()
        if link.broken:
            self._end()
            return
        waits = not done and link.needs_socket
        if waits != self._writing:
            self._writing = waits
            if waits:
                self._loop.add_writer(link.fileno(), self._flush)
            else:
                self._loop.remove_writer(link.fileno())
                self.senders.wake()
        elif done and self.outbox.lane.memory is not None:
            self.senders.wake()
        if not self._reading:  # it stopped while much was queued
            self._watch_reading()
        if self.writers and self.outbox.answers_bytes <= OUT_HIGH_BYTES:
            self.writers.wake_all()
        self._watch_lane()

    async def drain(self) -> None:
        """Until everything that was sent is written, or the connection is over."""
        self._flush()
        while self._writing or self.outbox.queue:
            await self.writers.wait()

    # ---- the lane's memory ----

    def _watch_lane(self) -> None:
        lane = self.outbox.lane.memory
        if lane is not None and lane.in_use and self._idle_timer is None:
            self._idle_timer = self._loop.call_later(LANE_IDLE_S, self._on_idle, lane.position)

    def _on_idle(self, position: int) -> None:
        """Give back what holds nothing, unless the lane was used meanwhile. The rest makes the other side say so: then again."""
        self._idle_timer = None
        lane = self.outbox.lane.memory
        if lane is not None and lane.position == position:
            lane.give_back()
        else:
            self._watch_lane()

    # ---- reading ----

    def answer_to(self, number: int) -> asyncio.Future[Message]:
        """The future of the answer to our message ``number``; it has failed when the connection ended as that was written."""
        answer: asyncio.Future[Message] = self._loop.create_future()
        self.link.pending[number] = answer
        answer.add_done_callback(lambda _: self.link.pending.pop(number, None))
        if self.link.broken:
            self._fail_pending()
        elif not self._reading:
            self._watch_reading()
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
        """Read while not too many answers wait to be written: whoever asks and does not listen is asked to wait.

        Not while we wait ourselves, for an answer or for room in our lane: the other side may wait as we do, each for the other to read.
        """
        outbox, link = self.outbox, self.link
        wanted = not link.broken and (outbox.answers_bytes <= OUT_HIGH_BYTES or bool(link.pending) or outbox.lane.blocked)
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
        if (
            (self.outbox.queue or link.lane.word_waits) and not self._writing and not self.flush_is_due
        ):  # it waited for the window or the lane
            self._flush()
        self._watch_lane()
        if self.outbox.answers_bytes > OUT_HIGH_BYTES:
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
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
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
