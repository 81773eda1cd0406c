# SPDX-License-Identifier: Apache-2.0
"""The ways of speaking with a worker: frames with our own Python worker, lines with any program."""

from __future__ import annotations

from supervisor.errors import BrokenError, ConfigError
from supervisor.worker.wire import HEADER, HEADER_BYTES, KIND_BITS, KIND_MASK, LARGE_BYTES, RESULT, TASK, header, large_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from typing import Final, Protocol, TypeAlias

    Body: TypeAlias = bytes | bytearray | memoryview
    Answer: TypeAlias = tuple[int, int, Body]

    class Speech(Protocol):
        """How tasks become bytes, and bytes answers."""

        #: Where the rest of a large answer is to be read into, and nothing beyond it; None between them.
        rest: memoryview | None

        def task(self, number: int, content: bytes) -> tuple[bytes, ...]: ...
        def feed(self, chunk: bytes) -> list[Answer]: ...
        def took(self, count: int) -> list[Answer]: ...


#: No answer of a worker may be larger, whatever its header says.
ANSWER_MAX_BYTES: Final = 1 << 32


class Frames:
    """Owns the bytes of a Python worker's answers that are no whole frame yet."""

    __slots__ = ("_held", "_large", "rest")

    def __init__(self) -> None:
        self._held = b""
        self._large: mmap | None = None  # of an answer that takes many reads: each goes to its place at once
        self.rest: memoryview | None = None

    def task(self, number: int, content: bytes) -> tuple[bytes, ...]:
        """What to write for one task."""
        head = header(TASK, number, len(content))
        return (head + content,) if len(content) < LARGE_BYTES else (head, content)

    def feed(self, chunk: bytes) -> list[Answer]:
        """The answers that are whole now. Raises :class:`BrokenError` for what no worker of ours says."""
        answers: list[Answer] = []
        if self.rest is not None:
            count = min(len(chunk), len(self.rest))
            self.rest[:count] = chunk[:count]
            answers, chunk = self.took(count), chunk[count:]
        held = self._held + chunk if self._held else chunk
        at, length = 0, len(held)
        while length - at >= HEADER_BYTES:
            word, number = HEADER.unpack_from(held, at)
            begin = at + HEADER_BYTES
            end = begin + (word >> KIND_BITS)
            if end > length:
                if end - at > ANSWER_MAX_BYTES:
                    raise BrokenError(f"a worker announced an answer of {end - begin} bytes")
                if end - length > LARGE_BYTES:
                    self._expect(held[at:], end - at)
                    return answers
                break
            answers.append((word & KIND_MASK, number, held[begin:end]))
            at = end
        self._held = held[at:]
        return answers

    def _expect(self, begun: bytes, size: int) -> None:
        """Make room for a large answer."""
        try:
            self._large = large_room(size)
        except OSError as error:
            raise BrokenError(f"a worker announced an answer of {size} bytes: {error.strerror}") from None
        self._large[: len(begun)] = begun
        self._held, self.rest = b"", memoryview(self._large)[len(begun) :]

    def took(self, count: int) -> list[Answer]:
        """So many bytes were read into :attr:`rest`: the answer, once it is whole."""
        assert self.rest is not None and self._large is not None
        self.rest = self.rest[count:]
        if self.rest:
            return []
        whole, self._large, self.rest = memoryview(self._large), None, None
        word, number = HEADER.unpack_from(whole)
        return [(word & KIND_MASK, number, whole[HEADER_BYTES:])]


class Lines:
    """Owns the line that a program is still writing; it answers each line that it reads with one line."""

    __slots__ = ("_held", "_number", "rest")

    def __init__(self) -> None:
        self.rest: memoryview | None = None
        self._held = bytearray()
        self._number = 0

    def task(self, number: int, content: bytes) -> tuple[bytes, ...]:
        """What to write for one task."""
        self._number = number
        return (content + b"\n",)

    def feed(self, chunk: bytes) -> list[Answer]:
        """The answer, once its line has ended. Raises :class:`BrokenError` for a line, or a part of one, that nobody asked for."""
        if chunk and not self._number:  # not even a part: it would begin the next answer
            raise BrokenError("a worker said what nobody asked for")
        line, end, rest = chunk.partition(b"\n")  # not in all that is held: a long line comes in many reads
        self._held += line
        if len(self._held) > ANSWER_MAX_BYTES:
            raise BrokenError("a worker's line does not end")
        if not end:
            return []
        if rest:
            raise BrokenError("a worker said a line that nobody asked for")
        answer = (RESULT, self._number, bytes(self._held))
        self._number, self._held = 0, bytearray()
        return [answer]

    def took(self, count: int) -> list[Answer]:
        """Never: a line's rest is nowhere else."""
        raise AssertionError(count)


def as_line(given: object) -> bytes:
    """A task of a command pool as the bytes of one line. Raises :class:`ConfigError`."""
    if isinstance(given, str):
        given = given.encode()
    if not isinstance(given, bytes) or b"\n" in given:
        raise ConfigError("line: a pool of commands takes one line, as text or bytes without a line end")
    return given
