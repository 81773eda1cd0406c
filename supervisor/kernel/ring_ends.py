# SPDX-License-Identifier: Apache-2.0
"""The two ends of a ring: one writes messages, the other reads them; bytes in, bytes out, order kept."""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock

from supervisor.errors import BrokenError, BusyError, ClosedError, ConfigError, CorruptError, OverrunError
from supervisor.kernel.native import ffi, lib, now_ns
from supervisor.kernel.segment import given
from supervisor.model.grant import BROADCAST, READER, WRITER
from supervisor.model.units import parse_duration_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final, Self

    Bytes = bytes | bytearray | memoryview
    Duration = str | float | None

FOR_EVER: Final = -1
#: Spin this long before sleeping: waking a sleeping processor costs 80-100 us, seeing a message while spinning below one.
#: On one processor whoever spins keeps the other side from running.
SPIN_NS: Final = 40_000 if len(os.sched_getaffinity(0)) > 1 else 0
#: Messages above this are copied one by one; below, joining them into one buffer is cheaper than a call each.
JOIN_MAX_BYTES: Final = 8192
BATCH_MESSAGES: Final = 4096
#: A message up to this goes through memory of ours, which saves two calls.
SCRATCH_BYTES: Final = 2048
#: More at once than this would be fresh memory at each call: the allocator gives it back to the kernel in between.
BATCH_BYTES: Final = 256 << 10


def deadline_ns(timeout: Duration) -> int:
    """When a time-out in any spelling is over, -1 for None and ``infinity``; raises :class:`ConfigError`."""
    if timeout is None:
        return FOR_EVER
    try:
        amount = parse_duration_ns(timeout)
    except ValueError as error:
        raise ConfigError(f"timeout: {error}") from None
    return FOR_EVER if amount == float("inf") else now_ns() + int(amount)


class _Use:
    """Holds an end for one call: nobody else gets it meanwhile, and it is open."""

    __slots__ = ("_end",)

    def __init__(self, end: RingEnd) -> None:
        self._end = end

    def __enter__(self) -> None:
        end = self._end
        if not end._lock.acquire(False):
            end._refuse_second()
        if end._pointer is None:
            end._lock.release()
            end._check_open()

    def __exit__(self, *_: object) -> None:
        self._end._lock.release()


class RingEnd:
    """Owns this process's mapping of a ring and the sockets to the other side.

    One thread or task uses an end at a time; a second gets :class:`BusyError`.
    """

    def __init__(self, name: str, pointer: Any, sockets: list[int]) -> None:
        self.name = name
        self._pointer = pointer
        self._sockets = sockets
        self._lock = allocate_lock()
        #: A task waits at this end.
        self.waiting = False

    @property
    def message_max(self) -> int:
        """Bytes of the largest message that fits."""
        with self._use():
            return int(lib.sup_ring_message_max(self._pointer))

    def fileno(self) -> int:
        """The socket that becomes readable when what :meth:`arm` waits for is there; raises :class:`ClosedError`."""
        self._check_open()
        return self._sockets[0]

    def arm(self, size: int = 0) -> bool:
        """True when a message, or room for one of ``size`` bytes, is there. If not, :meth:`fileno` will become readable.

        For event loops; call :meth:`disarm` before anything else. Raises EOFError, BrokenError, CorruptError, BusyError.
        """
        with self._use():
            result = lib.sup_ring_arm(self._pointer, size)
            return bool(result) if result >= 0 else self._fail(result)

    def disarm(self) -> None:
        """No more wake-ups are wanted."""
        if self._pointer is not None:
            lib.sup_ring_disarm(self._pointer)

    def _wait(self, size: int, deadline_ns: int) -> bool:
        """Sleep until a message or the room is there; False when the time is over."""
        while True:
            left = FOR_EVER if deadline_ns == FOR_EVER else max(0, deadline_ns - now_ns())
            result = lib.sup_ring_wait(self._pointer, size, left, SPIN_NS)
            if result == 0:
                return True
            if result == -errno.ETIMEDOUT:
                return False
            if result != -errno.EINTR:  # a signal: its handler has run by now, and may have raised
                self._fail(result)

    def _fail(self, result: int) -> Any:
        if result == -errno.ESHUTDOWN:
            raise EOFError(f"the writer of {self.name} has closed it and everything is read")
        if result in (-errno.EPIPE, -errno.ENOTCONN):
            raise BrokenError(f"the other side of ring {self.name} is gone")
        if result == -errno.EBADMSG:
            raise CorruptError(f"the memory of ring {self.name} is damaged")
        raise OSError(-result, os.strerror(-result))

    def _check_open(self) -> None:
        if self._pointer is None:
            raise ClosedError(f"this end of ring {self.name} is closed")

    def _use(self) -> _Use:
        return _Use(self)

    def _refuse_second(self) -> None:
        raise BusyError(f"this end of ring {self.name} is in use by another thread")

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def close(self) -> None:
        """Unmap and hang up: the other side reads what is there, then hears of the end. Safe to call twice."""
        if self._pointer is None:
            return
        with self._use():
            lib.sup_ring_close(self._pointer)
            self._pointer = None
            for fd in self._sockets:
                os.close(fd)
            self._sockets = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) is not None:
            self.close()


def _opened(pointer: Any, name: str) -> Any:
    """The pointer, or the error that opening met."""
    if pointer != ffi.NULL:
        return pointer
    if ffi.errno == errno.EBADMSG:
        raise CorruptError(f"the memory of ring {name} is damaged, or is no ring of this size")
    if ffi.errno == errno.EPERM:
        raise ConfigError(f"{name}: the ring is sealed, no process can begin to write")
    raise OSError(ffi.errno, os.strerror(ffi.errno))


class WriterEnd(RingEnd):
    """The end that writes: the only process that can change the messages."""

    def __init__(self, name: str, fd: int, capacity: int, broadcast: bool, cells: list[int], sockets: list[int]) -> None:
        """Owns ``sockets`` when it succeeds; borrows the memory's descriptors. Raises CorruptError, ConfigError, OSError."""
        super().__init__(name, _opened(lib.sup_ring_open_writer(fd, capacity, broadcast), name), [])
        self.broadcast = broadcast
        for slot, (cell, socket) in enumerate(zip(cells, sockets, strict=True)):
            result = lib.sup_ring_set_reader(self._pointer, slot, cell, socket)
            if result < 0:
                self.close()
                self._fail(result)
        self._sockets = sockets

    @classmethod
    def open(cls, name: str) -> Self:
        """The writing end of this name that this process was given; raises ConfigError, CorruptError."""
        grant = given(name, WRITER, "writing end of a ring")
        return cls(name, grant.fds[0], grant.size_bytes, grant.mode == BROADCAST, list(grant.fds[1::2]), list(grant.fds[2::2]))

    def connect(self, cell: int, socket: int, instead_of: int) -> None:
        """A new process reads in the place of one that is gone; owns ``socket`` when it succeeds."""
        with self._use():
            result = lib.sup_ring_set_reader(self._pointer, instead_of, cell, socket)
            if result < 0:
                self._fail(result)
            os.close(self._sockets[instead_of])
            self._sockets[instead_of] = socket

    def write(self, message: Bytes, timeout: Duration = None) -> None:
        """Write one message; on a queue wait for room.

        Raises:
            TimeoutError: nothing was written; a ``timeout`` of 0 does not wait at all.
            ConfigError: too big for this ring, whatever is free.
            BrokenError: the reader is gone, as far as is known: its death is noticed when there is no room, or it slept.
            CorruptError, ClosedError, BusyError.
        """
        if not self._lock.acquire(False):
            self._refuse_second()
        try:  # the one call of the ordinary case is spelled out: each Python call would cost a tenth of it
            raw = message if type(message) is bytes else ffi.from_buffer(message)  # cffi passes bytes as they are
            if self._pointer is None or lib.sup_ring_write(self._pointer, raw, len(raw)) != 1:
                self._check_open()
                if not self._write(message, timeout):
                    raise TimeoutError(f"no room in ring {self.name} for {len(raw)} bytes in time")
        finally:
            self._lock.release()

    def try_write(self, message: Bytes) -> bool:
        """Write one message if there is room for it now; raises what :meth:`write` raises but TimeoutError."""
        with self._use():
            return self._write(message, 0)

    def _write(self, message: Bytes, timeout: Duration) -> bool:
        raw = message if type(message) is bytes else ffi.from_buffer(message)  # cffi passes bytes as they are
        result = lib.sup_ring_write(self._pointer, raw, len(raw))
        if result == 1:
            return True
        if result == -errno.EAGAIN:
            if not self._wait(len(raw), deadline_ns(timeout)):
                return False
            result = lib.sup_ring_write(self._pointer, raw, len(raw))
        return True if result == 1 else self._refuse(result, len(raw))

    def write_many(self, messages: Sequence[Bytes], timeout: Duration = None) -> int:
        """Write messages in order with few calls; how many were written: all, unless the time was over before.

        Raises what :meth:`write` raises but TimeoutError; what was written by then stays written.
        """
        deadline = deadline_ns(timeout)
        done = 0
        with self._use():
            while done < len(messages):
                written = self._write_batch(messages, done)
                done += written
                if written == 0 and not self._wait(len(messages[done]), deadline):
                    break
        return done

    def _write_batch(self, messages: Sequence[Bytes], first: int) -> int:
        """Write what there is room for, without waiting; how many."""
        if len(messages[first]) > JOIN_MAX_BYTES:
            message = messages[first]
            raw = message if type(message) is bytes else ffi.from_buffer(message)
            result = lib.sup_ring_write(self._pointer, raw, len(raw))
            return 1 if result == 1 else 0 if result == -errno.EAGAIN else self._refuse(result, len(raw))
        batch = messages[first : first + BATCH_MESSAGES]
        sizes = list(map(len, batch))
        if max(sizes) > JOIN_MAX_BYTES:
            large = next(n for n, size in enumerate(sizes) if size > JOIN_MAX_BYTES)
            batch, sizes = batch[:large], sizes[:large]
        result = lib.sup_ring_write_many(self._pointer, b"".join(batch), ffi.new("uint32_t[]", sizes), len(sizes))
        return int(result) if result > 0 else 0 if result == -errno.EAGAIN else self._refuse(result, sizes[0])

    def _refuse(self, result: int, size: int) -> Any:
        if result == -errno.EMSGSIZE:
            raise ConfigError(
                f"a message of {size} bytes does not fit into ring {self.name}, "
                f"which takes {lib.sup_ring_message_max(self._pointer)}: make it with more capacity"
            )
        return self._fail(result)


class ReaderEnd(RingEnd):
    """The end that reads; it can change nothing but its own position."""

    def __init__(self, name: str, fd: int, capacity: int, broadcast: bool, cell: int, socket: int) -> None:
        """Owns ``socket`` when it succeeds; borrows the memory's descriptors. Raises CorruptError, OSError."""
        super().__init__(name, _opened(lib.sup_ring_open_reader(fd, cell, socket, capacity, broadcast), name), [socket])
        self.broadcast = broadcast
        #: Messages of a broadcast that were overwritten before they were read, since this end was opened.
        self.lost = 0
        self._bytes = ffi.buffer(lib.sup_ring_messages(self._pointer), 2 * capacity)
        self._starts = ffi.new("uint64_t[]", BATCH_MESSAGES)
        self._ends = ffi.new("uint64_t[]", BATCH_MESSAGES)
        self._lost = ffi.new("int64_t *")
        self._scratch = ffi.new("char[]", SCRATCH_BYTES)
        self._scratch_bytes = ffi.buffer(self._scratch)

    @classmethod
    def open(cls, name: str) -> Self:
        """The reading end of this name that this process was given; raises ConfigError, CorruptError."""
        grant = given(name, READER, "reading end of a ring")
        return cls(name, grant.fds[0], grant.size_bytes, grant.mode == BROADCAST, *grant.fds[1:])

    def read(self, timeout: Duration = None) -> bytes:
        """The next message; waits for it.

        Raises:
            TimeoutError: there was none in time; a ``timeout`` of 0 does not wait at all.
            EOFError: the writer has closed its end and everything is read.
            BrokenError: the writer has died, and everything it had committed is read.
            OverrunError: messages of a broadcast were lost; the next call goes on behind them.
            CorruptError: what is there cannot be a message. ClosedError, BusyError.
        """
        if not self._lock.acquire(False):
            self._refuse_second()
        try:  # spelled out as in write
            if self._pointer is not None:
                size = lib.sup_ring_read(self._pointer, self._scratch, SCRATCH_BYTES, self._lost)
                if size >= 0:
                    found: bytes = self._scratch_bytes[:size]
                    return found
                if size not in (-errno.EAGAIN, -errno.EMSGSIZE):
                    self._lose(size)
            self._check_open()
            if not self._peek(1, timeout):
                raise TimeoutError(f"no message in ring {self.name} in time")
            message: bytes = self._bytes[self._starts[0] : self._ends[0]]
            self._advance()
            return message
        finally:
            self._lock.release()

    def read_many(self, max_messages: int = BATCH_MESSAGES, timeout: Duration = None) -> list[bytes]:
        """Messages that are there, at least one: waits for the first only. An empty list: there was none in time.

        Raises what :meth:`read` raises but TimeoutError.
        """
        return self._read(min(max_messages, BATCH_MESSAGES), timeout)

    def read_into(self, buffer: bytearray | memoryview, timeout: Duration = None) -> int:
        """Copy the next message into ``buffer`` and return its size; raises what :meth:`read` raises.

        A message larger than the buffer is :class:`ConfigError`, and stays where it is. After OverrunError the buffer holds
        remains.
        """
        with self._use(), ffi.from_buffer(buffer, require_writable=True) as into:
            size = lib.sup_ring_read(self._pointer, into, len(into), self._lost)
            if size == -errno.EAGAIN and self._wait(0, deadline_ns(timeout)):
                size = lib.sup_ring_read(self._pointer, into, len(into), self._lost)
            if size == -errno.EAGAIN:
                raise TimeoutError(f"no message in ring {self.name} in time")
            if size == -errno.EMSGSIZE:
                raise ConfigError(f"buffer: the next message does not fit into {len(into)} bytes")
            return int(size) if size >= 0 else self._lose(size)

    def _read(self, most: int, timeout: Duration) -> list[bytes]:
        with self._use():
            count = self._peek(most, timeout)
            if count == 0:
                return []
            whole = self._bytes
            if count == 1:
                messages = [whole[self._starts[0] : self._ends[0]]]
            else:
                starts, ends = ffi.unpack(self._starts, count), ffi.unpack(self._ends, count)
                messages = [whole[start:end] for start, end in zip(starts, ends, strict=True)]
            self._advance()
            return messages

    def _peek(self, most: int, timeout: Duration) -> int:
        """How many messages lie at the offsets in ``_starts`` and ``_ends``; 0 when the time is over."""
        count = lib.sup_ring_peek(self._pointer, self._starts, self._ends, most, BATCH_BYTES, self._lost)
        if count == 0:
            if not self._wait(0, deadline_ns(timeout)):
                return 0
            count = lib.sup_ring_peek(self._pointer, self._starts, self._ends, most, BATCH_BYTES, self._lost)
        return int(count) if count >= 0 else self._lose(count)

    def _advance(self) -> None:
        """Give the messages back; raises OverrunError when they were overwritten while they were copied."""
        result = lib.sup_ring_advance(self._pointer, self._lost)
        if result < 0:
            self._lose(result)

    def _lose(self, result: int) -> Any:
        if result != -errno.EOVERFLOW:
            return self._fail(result)
        self.lost += self._lost[0]
        raise OverrunError(self._lost[0])

    def __iter__(self) -> Iterator[bytes]:
        """Messages until the writer closes its end; raises BrokenError when it died."""
        while True:
            try:
                yield from self._read(BATCH_MESSAGES, None)
            except EOFError:
                return
