# SPDX-License-Identifier: Apache-2.0
"""The standard streams of one job: its ends, our ends, and what native code does with them."""

from __future__ import annotations

import os

from supervisor.kernel.native import MAX_UINT64, check, duplicate, ffi, lib, now_ns
from supervisor.model.spec import COLLECT, DEVNULL, PIPE, RELAY, STDOUT, passes_through_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from supervisor.kernel.native import Engine
    from supervisor.model.capture import Capture, OutputStream, Tee
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.spec import JobSpec


def high(fd: int) -> int:
    """``fd`` itself when it is at least 3, else a duplicate that is; closes the low one it replaces."""
    if fd >= 3:
        return fd
    try:
        return duplicate(fd)
    finally:
        os.close(fd)


def is_inherited(fd: int) -> bool:
    """Whether a program would find it open that this process executes: what took the number of a closed standard stream is ours alone."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def open_pipe() -> tuple[int, int]:
    """A pipe whose ends are close-on-exec and never 0, 1 or 2, even where those were closed."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        read_end = high(read_end)
    except OSError:
        os.close(write_end)
        raise
    try:
        return read_end, high(write_end)
    except OSError:
        os.close(read_end)
        raise


STREAM_NAMES: Final = {1: "stdout", 2: "stderr"}


class Piped:
    """What is known of a stream that the caller reads: bytes read so far, when the last came, how to ask for the unread ones."""

    __slots__ = ("bytes", "last_ns", "unread")

    def __init__(self) -> None:
        self.bytes = self.last_ns = 0
        self.unread: Callable[[], int] = int

    def read(self, size: int) -> None:
        """The caller has read so many bytes more."""
        self.bytes += size
        self.last_ns = now_ns()


class Streams:
    """Owns the descriptors that connect one job, and the native reader of its output.

    ``sources``: what goes on the job's 0, 1 and 2. ``ours``: pipe ends handed to the caller (PIPE).
    After the launch :meth:`release` closes the job's ends; :meth:`close` closes everything.
    """

    __slots__ = ("_captures", "_copies", "_job_ends", "_native", "_null", "_piped", "ours", "sources")

    def __init__(self, engine: Engine, token: int, spec: JobSpec, plan: LaunchPlan) -> None:
        self.sources: dict[int, int] = {}
        self.ours: dict[int, int] = {}
        self._job_ends: list[int] = []
        self._native: Any = None
        self._null = -1
        self._piped: dict[int, Piped] = {}
        self._captures: dict[int, Capture] = {}
        self._copies: dict[int, Callable[[Callable[[], bytes]], None]] = {}
        try:
            self._open(engine, token, spec, plan)
        except BaseException:
            self.release()
            self.close()
            raise

    def _open(self, engine: Engine, token: int, spec: JobSpec, plan: LaunchPlan) -> None:
        terminal = spec.controlling_terminal is not None
        if terminal or spec.input is not None or any(passes_through_us(out) and out != PIPE for out in (plan.stdout, plan.stderr)):
            limit = plan.limits.output_max
            cap = MAX_UINT64 if limit is None or limit == float("inf") else int(limit)
            self._native = lib.sup_output_new(engine.pointer, token, cap)
            if self._native == ffi.NULL:
                raise MemoryError
        self._open_stdin(spec, plan.stdin)
        self._open_output(1, spec.stdout, plan.stdout)
        self._open_output(2, spec.stderr, plan.stderr, beside=spec.stdout)

    def _open_stdin(self, spec: JobSpec, stdin: int | None) -> None:
        if stdin == PIPE:
            read_end, write_end = open_pipe()
            self._job_end(0, read_end)
            if spec.input is None:
                self.ours[0] = write_end
            else:
                check(lib.sup_output_feed(self._native, write_end, ffi.from_buffer(spec.input), len(spec.input)))
        else:
            self._plain(0, stdin)

    def _open_output(self, number: int, asked: OutputStream, stream: OutputStream, beside: OutputStream = None) -> None:
        if stream == STDOUT or (number == 2 and self._same_target(beside, asked, stream)):
            if self.sources[1] < 3:
                self._job_end(2, duplicate(self.sources[1]))
            else:
                self.sources[2] = self.sources[1]
        elif stream is not None and not isinstance(stream, int):
            self._open_places(number, stream)
        elif stream in (PIPE, COLLECT, RELAY):
            read_end, write_end = open_pipe()
            self._job_end(number, write_end)
            if stream == PIPE:
                self.ours[number] = read_end
                self._piped[number] = Piped()
            elif stream == COLLECT:
                check(lib.sup_output_collect(self._native, number, read_end))
            else:
                target = asked if isinstance(asked, int) and asked >= 0 else self._inherited(number)
                check(lib.sup_output_relay(self._native, number, read_end, target))
        else:
            self._plain(number, stream)

    def _open_places(self, number: int, stream: Capture | Tee) -> None:
        """A pipe whose bytes native code takes to a file, or to two places."""
        from supervisor.kernel.capture_file import CaptureFile
        from supervisor.model.capture import Tee

        targets = stream.targets if isinstance(stream, Tee) else (stream,)
        read_end, write_end = open_pipe()
        self._job_end(number, write_end)
        pipe = read_end  # for the first place; the second has the same
        try:
            for target in targets:
                if target == COLLECT:
                    given, pipe = pipe, -1
                    check(lib.sup_output_collect(self._native, number, given))
                elif target == PIPE:
                    ours, theirs = open_pipe()
                    self.ours[number] = ours
                    given, pipe = pipe, -1
                    try:
                        check(lib.sup_output_pipe(self._native, number, given, theirs))
                    except OSError:
                        os.close(theirs)
                        raise
                elif target is None or isinstance(target, int):
                    given, pipe = pipe, -1
                    check(lib.sup_output_relay(self._native, number, given, self._inherited(number) if target is None else target))
                else:
                    file = CaptureFile(target)
                    given, pipe = pipe, -1
                    try:
                        file.give(self._native, number, given)
                    finally:
                        file.close()
                    self._captures[number] = target
        finally:
            if pipe >= 0:
                os.close(pipe)

    def _same_target(self, stdout: OutputStream, stderr: OutputStream, stream: OutputStream) -> bool:
        """stdout and stderr go to one file: one pipe keeps the order in which they were written."""
        if stream is not None and not isinstance(stream, int):
            return stdout == stderr and not hasattr(stream, "targets")  # the two pipes of a Tee stay apart
        if stream != RELAY or 1 not in self.sources or self.sources[1] not in self._job_ends:
            return False
        if not all(fd is None or (isinstance(fd, int) and fd >= 0) for fd in (stdout, stderr)):
            return False
        try:
            return os.path.sameopenfile(1 if stdout is None else stdout, 2 if stderr is None else stderr)  # type: ignore[arg-type]
        except OSError:
            return False

    def _plain(self, number: int, stream: int | None) -> None:
        if stream == DEVNULL or (stream is None and not is_inherited(number)):
            self._job_end(number, high(os.open(os.devnull, (os.O_RDONLY if number == 0 else os.O_WRONLY) | os.O_CLOEXEC)))
        elif stream is None or stream == number:
            self.sources[number] = number
        elif stream < 3:
            self._job_end(number, duplicate(stream))
        else:
            self.sources[number] = stream

    def _inherited(self, number: int) -> int:
        """Where a stream's bytes go on to that a job would inherit."""
        if is_inherited(number):
            return number
        if self._null < 0:
            self._null = high(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        return self._null

    def _job_end(self, number: int, fd: int) -> None:
        self.sources[number] = fd
        self._job_ends.append(fd)

    def talk_through(self, master: int, slave: int) -> None:
        """The caller talks to the job through the other side of its terminal; takes over both sides."""
        self._job_ends.append(slave)
        self.ours[1] = master
        self._piped[1] = Piped()
        self.ours[0] = duplicate(master)

    def relay_from(self, number: int, fd: int, to_fd: int) -> None:
        """Copy what comes from ``fd`` (a terminal's other side, owned from now on) to ``to_fd`` as stream ``number``."""
        check(lib.sup_output_relay(self._native, number, fd, to_fd))

    def release(self) -> None:
        """Close the job's ends in this process; call once the job has its own, or will never start."""
        for fd in self._job_ends:
            os.close(fd)
        self._job_ends.clear()

    @property
    def counts(self) -> bool:
        """This job's output passes through us."""
        return self._native is not None or bool(self._piped)

    def is_read(self, number: int) -> bool:
        """The caller reads stream 1 or 2 from the job itself."""
        return number in self._piped

    def piped(self, number: int) -> Piped | None:
        """The account of stream 1 or 2 when the caller reads it from the job itself, None for a copy (``Tee``)."""
        return self._piped.get(number)

    def copy_to(self, number: int, take: Callable[[Callable[[], bytes]], None]) -> None:
        """The caller reads a copy of the stream (``Tee``): at the job's end ``take`` is given the way to what its pipe did not take."""
        self._copies[number] = take

    def _rest(self, number: int) -> bytes:
        """What the pipe of a ``Tee`` did not take; that pipe ends then."""
        if self._native is None:
            return b""
        size = ffi.new("uint64_t *")
        start = lib.sup_output_rest(self._native, number, size)
        return bytes(ffi.buffer(start, size[0])) if size[0] else b""

    def lost(self) -> dict[int, tuple[int, int]]:
        """By stream: how many bytes its file did not take, and the last errno."""
        found = {}
        for number in self._captures if self._native is not None else ():
            error = ffi.new("int32_t *")
            if count := lib.sup_output_lost(self._native, number, error):
                found[number] = int(count), int(error[0])
        return found

    def losses(self) -> list[str]:
        """What files did not take, in words."""
        if not self._captures:
            return []
        return [
            f"{STREAM_NAMES[number]}: {count} bytes are lost, {self._captures[number].path}: {os.strerror(code)}"
            for number, (count, code) in self.lost().items()
        ]

    def failure(self, number: int, code: int) -> str:
        """A file takes no more, in words."""
        return f"{STREAM_NAMES[number]}: output is being lost, {self._captures[number].path}: {os.strerror(code)}"

    def drain(self) -> None:
        """Take what the job left in its pipes and stop reading; relayed bytes may still be on their way."""
        if self._native is not None:
            lib.sup_output_drain(self._native)
            for number, take in self._copies.items():
                take(lambda number=number: self._rest(number))  # type: ignore[misc]

    def pending(self) -> bool:
        """Relayed bytes wait for their destination."""
        return self._native is not None and lib.sup_output_pending(self._native) > 0

    def relay_errno(self) -> int:
        """Why relayed bytes could not be written (disk full ...), 0 when they could; a reader that left is no error."""
        return int(lib.sup_output_error(self._native)) if self._native is not None else 0

    def abandon(self) -> None:
        """Drop what still waits for its destination."""
        if self._native is not None:
            lib.sup_output_free(self._native)
            self._native = None

    def collected(self, number: int) -> bytes:
        """The bytes kept of stream 1 or 2."""
        return self.grown(number, 0)

    def announce(self, on: bool) -> None:
        """OUTPUT events whenever a collected stream has grown, or no longer."""
        if self._native is not None:
            lib.sup_output_announce(self._native, on)

    def grown(self, number: int, since: int) -> bytes:
        """What was collected of stream 1 or 2 beyond the first ``since`` bytes."""
        if self._native is None:
            return b""
        size = ffi.new("uint64_t *")
        start = ffi.cast("char *", lib.sup_output_bytes(self._native, number, size))
        return bytes(ffi.buffer(start + since, size[0] - since)) if size[0] > since else b""

    def limit(self, max_bytes: int | float) -> bool:
        """Another cap over both streams; True when more than that has come already."""
        cap = MAX_UINT64 if max_bytes == float("inf") else int(max_bytes)
        return self._native is not None and bool(lib.sup_output_limit(self._native, cap))

    def count(self, number: int) -> int:
        """Bytes that came through stream 1 or 2, those beyond the cap and those still unread too."""
        piped = self._piped.get(number)
        if piped is not None:
            return piped.bytes + piped.unread()
        return int(lib.sup_output_count(self._native, number)) if self._native is not None else 0

    def truncated(self) -> bool:
        return self._native is not None and bool(lib.sup_output_truncated(self._native))

    def last_ns(self) -> int:
        """When output last came; 0 for never, or where it does not pass through us."""
        native = int(lib.sup_output_last_ns(self._native)) if self._native is not None else 0
        return max([native, *(piped.last_ns for piped in self._piped.values())]) if self._piped else native

    def close(self) -> None:
        """Close every descriptor that is still ours."""
        self.abandon()
        for fd in self.ours.values():
            os.close(fd)
        self.ours.clear()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
