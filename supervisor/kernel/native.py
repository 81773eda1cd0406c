# SPDX-License-Identifier: Apache-2.0
"""The typed face of the native module: the only place that imports it.

Results below zero become OSError here; everything above deals in Python values.
"""

from __future__ import annotations

import os

from supervisor._native import ffi as ffi
from supervisor._native import lib as lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

STAGES: Final[tuple[str, ...]] = tuple([ffi.string(lib.sup_stage_name(n)).decode() for n in range(lib.sup_stage_count())])
STAGE_NUMBERS: Final[dict[str, int]] = {name: n for n, name in enumerate(STAGES)}

SPAWNED: Final[int] = lib.SUP_EVENT_SPAWNED
EXITED: Final[int] = lib.SUP_EVENT_EXITED
EMPTY: Final[int] = lib.SUP_EVENT_EMPTY
OUTPUT_LIMIT: Final[int] = lib.SUP_EVENT_OUTPUT_LIMIT
OUTPUT_END: Final[int] = lib.SUP_EVENT_OUTPUT_END
SIGNAL: Final[int] = lib.SUP_EVENT_SIGNAL
READY: Final[int] = lib.SUP_EVENT_READY
OUTPUT: Final[int] = lib.SUP_EVENT_OUTPUT
DENIED: Final[int] = lib.SUP_EVENT_DENIED
OUTPUT_ERROR: Final[int] = lib.SUP_EVENT_OUTPUT_ERROR

#: Of a READY event that is no job's: a signal came, see held_signals.py.
WAKE_TOKEN: Final = 0

MAX_UINT64: Final = (1 << 64) - 1

#: CLOCK_MONOTONIC in nanoseconds.
now_ns = lib.sup_now


def check(result: int, what: str = "") -> int:
    """``result`` when it is not an error, else OSError with its errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), *([what] if what else []))
    return result


FIRST_READ: Final = 4096
LARGEST_FILE: Final = 1 << 20


def _read(dir_fd: int, path: bytes) -> Any:
    """The bytes of a small file, or -errno. The buffer is the call's own: other threads read meanwhile."""
    size = FIRST_READ
    while True:
        buffer = ffi.new("char[]", size)
        length = lib.sup_read_at(dir_fd, path, buffer, size)
        if length < size or size >= LARGEST_FILE:
            return length if length < 0 else ffi.buffer(buffer, length)[:]
        size *= 16


#: Errors that say nothing about a file: this process (EMFILE), the host (ENFILE) or the kernel (ENOMEM) has nothing left to read it with.
EXHAUSTED: Final = (-24, -23, -12)


def read_at(dir_fd: int, path: str) -> str | None:
    """The text of one small file below ``dir_fd``, or None when it is missing or cannot be read.

    Raises OSError when that is not known, because no descriptor or no memory is left.
    """
    found = _read(dir_fd, path.encode())
    if not isinstance(found, int):
        return str(found, "utf-8", "replace")
    if found in EXHAUSTED:
        check(found, path)
    return None


def write_at(dir_fd: int, path: str, text: str) -> None:
    """Write ``text`` to a file below ``dir_fd`` in one go; raises OSError."""
    raw = text.encode()
    check(lib.sup_write_at(dir_fd, path.encode(), raw, len(raw)), path)


def lock(fd: int, wait: bool) -> bool:
    """Take the exclusive lock of the open file; False when another holder is alive and ``wait`` is not set."""
    result = lib.sup_lock(fd, wait)
    if result == -11:  # EAGAIN
        return False
    check(result)
    return True


def close_given(fd: int) -> None:
    """Close a descriptor that another process passed on. It may be a connection that is told to linger, which is not waited for."""
    lib.sup_close_given(fd)


def close_socket(fd: int) -> None:
    """Close a unix socket; the same holds for the descriptors in it that nobody has received."""
    lib.sup_close_socket(fd)


def duplicate(fd: int, least: int = 3) -> int:
    """A close-on-exec duplicate whose number is at least ``least``; raises OSError."""
    return check(lib.sup_duplicate(fd, least))


def receive(socket: int, wait: bool = True) -> tuple[bytes | None, int]:
    """One packet of up to 4 KiB and the descriptor it carries, or -1; empty at the end, None when there is none and ``wait`` is not set."""
    buffer, fd = ffi.new("char[]", FIRST_READ), ffi.new("int32_t *", -1)
    length = lib.sup_receive(socket, buffer, FIRST_READ, wait, fd)
    if length == -11:  # EAGAIN
        return None, -1
    check(length)
    return ffi.buffer(buffer, length)[:], fd[0]


def look_at_cgroup(cgroup_fd: int, box: str) -> Any:
    """Whether anybody is left in ``box`` below the cgroup, and what was used there: a ``struct sup_event`` as an exit tells it."""
    event = ffi.new("struct sup_event *")
    lib.sup_look_at_cgroup(cgroup_fd, f"{box}/cgroup.events".encode(), f"{box}/cpu.stat".encode(), event)
    return event


AT_FDCWD: Final = -100


def read_path(path: str) -> str:
    """The text of one small kernel file; raises OSError. Python's own ``open`` loads codecs for it."""
    found = _read(AT_FDCWD, os.fsencode(path))
    if isinstance(found, int):
        check(found, path)
    return str(found, "utf-8", "surrogateescape")


def write_path(path: str, text: str) -> None:
    """Write ``text`` to a kernel file in one go; raises OSError."""
    raw = text.encode()
    check(lib.sup_write_at(AT_FDCWD, os.fsencode(path), raw, len(raw)), path)


def send_signal(pidfd: int, signal: int) -> bool:
    """Signal the process; False when it is gone already. Raises OSError for anything else."""
    result = lib.sup_pidfd_send_signal(pidfd, signal)
    if result == -3:  # ESRCH
        return False
    check(result)
    return True


def landlock_abi() -> int:
    """The version of Landlock's interface that this kernel has (1: Linux 5.13); below 1 when there is none."""
    return int(lib.sup_landlock_abi())


def open_pidfd(pid: int) -> int:
    """A pidfd of a process that is known to be alive or not yet reaped; raises OSError."""
    return check(lib.sup_pidfd_open(pid))


PACKETS_END: Final[int] = lib.SUP_PACKETS_END
PACKETS_MORE: Final[int] = lib.SUP_PACKETS_MORE
PACKETS_BUFFER_BYTES: Final = 256 << 10


class Packets:
    """Owns the room for what one channel receives; ``buffer``'s slices are bytes."""

    __slots__ = ("_found", "_memory", "_packet_max", "buffer")

    def __init__(self, packet_max_bytes: int) -> None:
        from mmap import mmap

        self.buffer = mmap(-1, PACKETS_BUFFER_BYTES)  # page-aligned: copies into other memory can be many times slower
        self._memory = ffi.from_buffer(self.buffer)
        self._found = ffi.new("struct sup_packets *")
        self._packet_max = packet_max_bytes

    def receive(self, fd: int, wait: bool) -> tuple[int, int, int]:
        """Read packets, one behind the other into ``buffer``: what ended it, the bytes of ordinary ones, the bytes of a special one.

        The first is PACKETS_END, PACKETS_MORE (there may be more), 0 (not now) or -errno. A special packet has descriptors or was cut.
        """
        found = self._found
        state = lib.sup_receive_packets(fd, self._memory, PACKETS_BUFFER_BYTES, self._packet_max, wait, found)
        return state, found.plain, found.special

    def take_descriptors(self) -> list[int] | None:
        """The descriptors of the special packet, the caller's from now on; None when the packet was cut (they are closed)."""
        found = self._found
        fds: list[int] = ffi.unpack(found.fds, found.fd_count)
        found.fd_count = 0
        if not found.cut:
            return fds
        for fd in fds:
            close_given(fd)
        return None


class Engine:
    """Owns one native epoll set and, once started, its spawner threads.

    One thread uses an engine at a time. ``fileno()`` is readable when :meth:`poll` has news, so any
    event loop can wait on it.
    """

    def __init__(self, events_per_poll: int = 128) -> None:
        self.pointer = lib.sup_engine_new()
        if self.pointer == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._events = ffi.new("struct sup_event[]", events_per_poll)
        self._max = events_per_poll
        self._tokens = 0
        self._program = -1

    def sealed_program(self, path: str) -> int:
        """A descriptor of a sealed copy of the program, made once and kept: what has it open can change nothing. Raises OSError."""
        if self._program < 0:
            fd = check(lib.sup_sealed_copy(os.fsencode(path)), path)
            try:
                self._program = duplicate(fd)  # above the standard streams, which a job's may cover
            finally:
                os.close(fd)
        return self._program

    def fileno(self) -> int:
        return int(lib.sup_engine_fd(self.pointer))

    def new_token(self) -> int:
        """A number that names one watched thing in this engine's events, never used again."""
        self._tokens += 1
        return self._tokens

    def poll(self, timeout_ns: int) -> list[Any]:
        """Wait up to ``timeout_ns`` (-1: for ever) and return the events; they are valid until the next call."""
        count = lib.sup_engine_poll(self.pointer, self._events, self._max, timeout_ns)
        if count < 0:
            check(count)
        events = self._events
        return [events[n] for n in range(count)]

    def start_spawners(self, count: int) -> None:
        check(lib.sup_engine_start_spawners(self.pointer, count))

    def submit(self, token: int, block: bytes, cgroup_root_fd: int, lend_network: bool = False) -> Any:
        """Queue a launch. What this returns must be kept alive until the SPAWNED event of ``token``.

        ``lend_network``: an empty network namespace that an earlier job had will do.
        """
        kept = ffi.from_buffer(block)
        check(lib.sup_engine_submit(self.pointer, token, kept, len(block), cgroup_root_fd, lend_network))
        return kept

    def launch(self, token: int, block: bytes, cgroup_root_fd: int) -> Any:
        """Launch on the calling thread into the directory ``job-<token>``, and watch the exit.

        Returns a ``struct sup_child``, whose ``err`` is not 0 when either failed; nothing is left then.
        """
        child = ffi.new("struct sup_child *")
        lib.sup_engine_launch(self.pointer, token, block, len(block), cgroup_root_fd, child)
        return child

    def adopt(self, token: int, block: bytes, cgroup_root_fd: int, child: Any) -> None:
        """Watch the exit of a child that was made for this block; one that cannot be watched is ended, and ``child.err`` says why."""
        lib.sup_engine_adopt(self.pointer, token, block, cgroup_root_fd, child)

    def watch_empty(self, token: int, events_fd: int) -> None:
        check(lib.sup_engine_watch_empty(self.pointer, token, events_fd))

    def watch_ready(self, token: int, fd: int) -> Any:
        """READY events while ``fd`` is readable, until :meth:`unwatch` of what this returns."""
        watch = lib.sup_engine_watch_ready(self.pointer, token, fd)
        if watch == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        return watch

    def unwatch(self, watch: Any) -> None:
        """Stop watching; must come before its descriptor is closed."""
        lib.sup_engine_unwatch(self.pointer, watch)

    def watch_signals(self, signals: tuple[int, ...]) -> None:
        """Turn these signals of the calling thread into SIGNAL events until :meth:`unwatch_signals`."""
        check(lib.sup_engine_watch_signals(self.pointer, sum(1 << (number - 1) for number in signals)))

    def unwatch_signals(self) -> None:
        check(lib.sup_engine_unwatch_signals(self.pointer))

    def close(self) -> None:
        """Release the set and end the spawner threads; safe to call twice."""
        if self.pointer is not None:
            lib.sup_engine_free(self.pointer)
            self.pointer = None
        if self._program >= 0:
            os.close(self._program)
            self._program = -1
