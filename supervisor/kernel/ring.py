# SPDX-License-Identifier: Apache-2.0
"""Ring: the memory and the sockets of one ring of messages, before and after its ends are given away."""

from __future__ import annotations

import os

from supervisor.errors import BusyError, ClosedError, ConfigError
from supervisor.kernel import memfd
from supervisor.kernel.native import check, ffi, lib
from supervisor.model.grant import BROADCAST, LARGEST_BYTES, QUEUE, READER, WRITER, Grant, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self, TypeVar

    from supervisor.kernel.ring_ends import ReaderEnd, WriterEnd

    Writer = TypeVar("Writer", bound=WriterEnd)
    Reader = TypeVar("Reader", bound=ReaderEnd)

_PAGE: Final = os.sysconf("SC_PAGESIZE")
READERS_MAX: Final = 64
_WRITER, _READER = 0, 1


def _socket_pair() -> list[int]:
    pair = ffi.new("int32_t[2]")
    check(lib.sup_socketpair(pair))
    return [pair[0], pair[1]]


class _Cell:
    """Owns one reader's page and both ends of the socket between it and the writer, until they are given away."""

    def __init__(self, name: str, capacity: int, index: int, count: int) -> None:
        self.fd = memfd.create(name, _PAGE)
        self.sockets = [-1, -1]
        self.given = [False, False]
        self.read_only_fd = -1
        try:
            check(lib.sup_ring_format(self.fd, capacity, index, count))
            self.read_only_fd = memfd.reopen_read_only(self.fd)
            self.sockets = _socket_pair()
        except BaseException:
            self.close()
            raise

    def release(self, *sides: int) -> None:
        """Close our copies of these sides' sockets, when they were given away."""
        for side in sides:
            if self.given[side] and self.sockets[side] >= 0:
                os.close(self.sockets[side])
                self.sockets[side] = -1

    def take(self, side: int) -> None:
        """This side's socket belongs to an end in this process from now on."""
        self.given[side] = True
        self.sockets[side] = -1

    def renew(self) -> None:
        """Another socket pair, for another process in the reader's place."""
        check(lib.sup_ring_renew(self.fd))
        pair = _socket_pair()
        self.given = [True, True]
        self.release(_WRITER, _READER)
        self.sockets, self.given = pair, [False, False]

    def close(self) -> None:
        for fd in (self.fd, self.read_only_fd, *self.sockets):
            if fd >= 0:
                os.close(fd)


class Ring:
    """Owns the memory of one ring, a cell for each reader, and the ends that nobody has taken yet.

    A *queue* has one reader, and the writer waits for it. A *broadcast* has many; the writer never waits, and a reader that is
    too slow is told how many messages it lost. Each end is taken once, in this process (:meth:`take_writer`, :meth:`take_reader`) or by
    a job (:meth:`grant_writer`, :meth:`grant_reader`, then :meth:`release` when the job has started).

    Only the writer can write messages, each reader only its own cell: readers get descriptors that cannot write, and
    once :meth:`seal` is called, or the writer is this process, the kernel lets nobody begin to write. The memory is charged to
    the cgroup of the writer, which touches it first.
    """

    def __init__(self, name: str, capacity_bytes: int, readers: int, broadcast: bool, prefault: bool) -> None:
        """Raises ConfigError, UnsupportedError without /proc, OSError."""
        self.name = check_name(name)
        self.broadcast = broadcast
        if not 1 <= readers <= READERS_MAX or (readers > 1 and not broadcast):
            raise ConfigError(f"readers: a broadcast has 1 to {READERS_MAX}, a queue has one, not {readers}")
        self.capacity = max(_PAGE, 1 << (capacity_bytes - 1).bit_length())
        if self.capacity > LARGEST_BYTES:
            raise ConfigError(f"capacity: {self.capacity} bytes is more than {LARGEST_BYTES}")
        self._writer_given = self._writer_taken = False
        self._cells: list[_Cell] = []
        self._read_only_fd = -1
        self._sealed = False
        self._fd = memfd.create(name, _PAGE + self.capacity)
        try:
            check(lib.sup_ring_format(self._fd, self.capacity, 0, 0))
            if prefault:
                memfd.allocate(self._fd, _PAGE + self.capacity)
            self._read_only_fd = memfd.reopen_read_only(self._fd)
            for _ in range(readers):
                self._cells.append(_Cell(name, self.capacity, 0, 0))
        except BaseException:
            self.close()
            raise

    # ---- taking the ends here ----

    def take_writer(self, kind: type[Writer]) -> Writer:
        """The writing end, in this process; seals the ring. Raises BusyError when it is taken, OSError, ClosedError."""
        self._check_writer()
        cells, sockets = [cell.read_only_fd for cell in self._cells], [cell.sockets[_WRITER] for cell in self._cells]
        made = kind(self.name, self._fd, self.capacity, self.broadcast, cells, sockets)
        for cell in self._cells:
            cell.take(_WRITER)
        self._writer_taken = True
        self.seal()
        return made

    def take_reader(self, number: int, kind: type[Reader]) -> Reader:
        """The ``number``-th reading end, in this process. Raises BusyError when it is taken, OSError, ClosedError."""
        cell = self._free_cell(number)
        made = kind(self.name, self._read_only_fd, self.capacity, self.broadcast, cell.fd, cell.sockets[_READER])
        cell.take(_READER)
        return made

    # ---- giving them to jobs ----

    def grant_writer(self) -> Grant:
        """The writing end, for a job. Raises BusyError when it is taken, ConfigError once sealed, ClosedError."""
        self._check_writer()
        if self._sealed:
            raise ConfigError(f"{self.name}: is sealed, no process can begin to write")
        fds = [self._fd]
        for cell in self._cells:
            cell.given[_WRITER] = True
            fds += [cell.read_only_fd, cell.sockets[_WRITER]]
        self._writer_given = True
        return self._grant(WRITER, fds)

    def grant_reader(self, number: int = 0) -> Grant:
        """The ``number``-th reading end, for a job. Raises BusyError when it is taken, ClosedError."""
        cell = self._free_cell(number)
        cell.given[_READER] = True
        return self._grant(READER, [self._read_only_fd, cell.fd, cell.sockets[_READER]])

    def release(self) -> None:
        """The jobs that were granted ends have started: close our copies, so that a job's death is noticed at once."""
        for cell in self._cells:
            cell.release(_WRITER, _READER)

    def renew_reader(self, writer: WriterEnd, number: int = 0) -> None:
        """The job that read has ended: make its end free again, for a successor that goes on where it stopped.

        ``writer`` is our own writing end, which is connected to it. Raises OSError, ClosedError.
        """
        self._check_open()
        cell = self._cells[number]
        cell.renew()
        writer.connect(cell.read_only_fd, cell.sockets[_WRITER], instead_of=number)
        cell.take(_WRITER)

    def seal(self) -> None:
        """From now on nobody can begin to write messages; the writer that has the ring mapped goes on. Raises OSError."""
        self._check_open()
        if not self._sealed:
            memfd.add_seals(self._fd, memfd.SEAL_FUTURE_WRITE | memfd.SEAL)
            self._sealed = True

    def _grant(self, kind: str, fds: list[int]) -> Grant:
        mode = BROADCAST if self.broadcast else QUEUE
        return Grant(name=self.name, kind=kind, mode=mode, size_bytes=self.capacity, fds=tuple(fds))

    def _check_writer(self) -> None:
        self._check_open()
        if self._writer_taken or self._writer_given:
            raise BusyError(f"the writing end of {self.name} is taken")

    def _free_cell(self, number: int) -> _Cell:
        self._check_open()
        if not 0 <= number < len(self._cells):
            raise ConfigError(f"number: {self.name} has {len(self._cells)} readers, counted from 0, not {number}")
        if self._cells[number].given[_READER]:
            raise BusyError(f"reader {number} of {self.name} is taken")
        return self._cells[number]

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ClosedError(f"ring {self.name} is closed")

    def close(self) -> None:
        """Give up the memory and the ends nobody took; ends that were taken go on. Safe to call twice."""
        for cell in self._cells:
            cell.close()
        self._cells = []
        for fd in (self._fd, self._read_only_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._read_only_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()
