# SPDX-License-Identifier: Apache-2.0
"""Segment: named memory that processes share, with the size and the permissions held by the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import sys

from supervisor.errors import ClosedError, ConfigError, CorruptError
from supervisor.kernel import memfd
from supervisor.model.grant import ACCESSES, LARGEST_BYTES, SEGMENT, VARIABLE, Grant, check_name, parse_grants
from supervisor.model.units import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Self

#: A segment that can grow has one page behind its limit, which holds the current size.
_PAGE: Final = mmap.PAGESIZE
_PROTECTION: Final = {
    "r": mmap.PROT_READ,
    "rw": mmap.PROT_READ | mmap.PROT_WRITE,
    "rx": mmap.PROT_READ | mmap.PROT_EXEC,
    "rwx": mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
}


def size_of(key: str, given: int | str) -> int:
    """Bytes from any spelling of a size; raises :class:`ConfigError` naming the key."""
    try:
        amount = parse_bytes(given)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    if not 0 < amount <= LARGEST_BYTES:
        raise ConfigError(f"{key}: must be 1 byte to {LARGEST_BYTES >> 40}T")
    return int(amount)


def given(name: str, kind: str, what: str) -> Grant:
    """The grant of this name and kind that this process was started with; raises :class:`ConfigError`."""
    grants = parse_grants(os.environ.get(VARIABLE, ""))
    grant = grants.get(check_name(name))
    if grant is None:
        raise ConfigError(f"{name}: this process was given no {what} of that name (it has {', '.join(sorted(grants)) or 'none'})")
    if grant.kind != kind:
        raise ConfigError(f"{name}: is a {grant.kind}, not a {what}")
    for fd in grant.fds:
        try:
            os.set_inheritable(fd, False)
        except OSError:
            raise ConfigError(f"{name}: descriptor {fd} is not open: the job was started without pass_fds, or it was closed") from None
    return grant


class Segment:
    """Owns one memfd, or was given one, and this process's mapping of it.

    The memory lives as long as anybody has a descriptor or a mapping of it, and is in no file system: after ``kill -9``
    of everybody nothing is left. Pages are charged to the cgroup of whoever touches them first (memcg charges shared
    memory that way): what a job writes counts against the job. ``prefault=True`` takes them at the creator's cost.

    Any thread may use it; calls do not lock, so concurrent writes to one place interleave.
    """

    def __init__(self, name: str, fd: int, access: str, size_bytes: int, limit_bytes: int, owned: bool) -> None:
        """For the constructors below: ``create``, ``freeze`` and ``open``."""
        self.name = name
        #: What this process may do: ``r``, ``rw``, ``rx`` or ``rwx``.
        self.access = access
        self._fd = fd
        self._read_only_fd = -1
        self._owned = owned
        self._limit = limit_bytes
        self._growable = limit_bytes > size_bytes
        self._size = size_bytes
        self._map: mmap.mmap | None = _map(fd, _file_size(size_bytes, limit_bytes), access)
        self._buffer: memoryview | None = None
        self._most = access  # the most that may be granted

    @classmethod
    def create(
        cls, name: str, size: int | str, *, limit: int | str | None = None, grant: str = "r", execute: bool = False, prefault: bool = False
    ) -> Self:
        """New zeroed memory that this process reads and writes.

        Args:
            size: bytes, or a text such as ``"16M"``.
            limit: it can be grown up to here; ``None``: it cannot grow.
            grant: the most that others may be given. ``r``: nobody else can ever write. ``rw``: others may write as well.
            execute: with ``grant="rw"``: code may be written and executed in it, which is refused otherwise.
            prefault: take the pages now, charged to this process.

        Raises:
            ConfigError, UnsupportedError: executable memory where the host forbids it.
            OSError: no descriptor, no memory.
        """
        check_name(name)
        size_bytes = size_of("size", size)
        limit_bytes = size_bytes if limit is None else size_of("limit", limit)
        if limit_bytes < size_bytes:
            raise ConfigError(f"limit: {limit_bytes} bytes is less than the size, {size_bytes}")
        if grant not in ("r", "rw"):
            raise ConfigError(f"grant: must be 'r' or 'rw', not {grant!r}")
        if execute and grant == "r":
            raise ConfigError("execute: code that one writes and another executes needs grant='rw'; to only execute it, freeze it")
        made_bytes = _file_size(size_bytes, limit_bytes)
        fd = memfd.create(name, made_bytes, executable=execute)
        try:
            if prefault:
                memfd.allocate(fd, made_bytes)
            made = cls(name, fd, "rwx" if execute else "rw", size_bytes, limit_bytes, True)
        except BaseException:
            os.close(fd)
            raise
        made._most = "rwx" if execute else grant
        made._publish_size()
        if grant == "r":
            made.seal()
        return made

    @classmethod
    def freeze(cls, name: str, content: bytes | bytearray | memoryview, *, execute: bool = False) -> Self:
        """Memory with this content that nobody can change any more, this process neither.

        With ``execute`` it may be mapped executable and executed. Raises ConfigError, UnsupportedError, OSError.
        """
        check_name(name)
        with memoryview(content).cast("B") as raw:
            size_bytes = size_of("content", len(raw))
            fd = memfd.create(name, size_bytes, executable=execute)
            try:
                done = 0
                while done < size_bytes:
                    done += os.pwrite(fd, raw[done:], done)
                memfd.add_seals(fd, memfd.SEAL_WRITE | memfd.SEAL)
                read_only = memfd.reopen_read_only(fd)  # before Linux 6.7 the other one cannot be mapped any more
            finally:
                os.close(fd)
        try:
            return cls(name, read_only, "rx" if execute else "r", size_bytes, size_bytes, True)
        except BaseException:
            os.close(read_only)
            raise

    @classmethod
    def open(cls, name: str) -> Self:
        """The segment of this name that this process was given when it was started.

        Raises :class:`ConfigError` when there is none, :class:`CorruptError` when it is smaller than was said.
        """
        grant = given(name, SEGMENT, "segment")
        fd = grant.fds[0]
        if os.fstat(fd).st_size < _file_size(grant.size_bytes, grant.limit_bytes):
            raise CorruptError(f"{name}: the memory is smaller than this process was told")
        return cls(name, fd, grant.mode, grant.size_bytes, grant.limit_bytes, False)

    # ---- size ----

    @property
    def size(self) -> int:
        """Bytes that can be used now; of memory that can grow, whoever asks sees the size of now."""
        if self._growable and self._map is not None:
            said = int.from_bytes(self._map[-_PAGE : 8 - _PAGE], "little")
            self._size = max(self._size, min(said, self._limit))  # another process can write there: believed within the limit
        return self._size

    @property
    def limit(self) -> int:
        """Bytes that it can grow to."""
        return self._limit

    def grow(self, size: int | str) -> None:
        """Make more of the memory usable, for everybody; views taken before keep their length.

        Raises :class:`ConfigError` beyond the limit or below the current size, :class:`ClosedError`.
        """
        size_bytes = size_of("size", size)
        if not self.size <= size_bytes <= self._limit:
            raise ConfigError(f"size: {self.name} has {self.size} bytes and can grow up to {self._limit}, not to {size_bytes}")
        self._mapping(writable=True)
        if size_bytes != self._size:
            self._size = size_bytes
            self._publish_size()

    def _publish_size(self) -> None:
        if self._growable and self._map is not None:
            self._map[-_PAGE : 8 - _PAGE] = self._size.to_bytes(8, "little")

    # ---- content ----

    @property
    def buffer(self) -> memoryview:
        """The memory itself, without a copy; read-only unless this process may write. ``numpy.frombuffer`` takes it.

        A view stays valid as long as it lives, beyond :meth:`close` too. Raises :class:`ClosedError`.
        """
        mapping = self._mapping()
        size = self.size
        if self._buffer is None or len(self._buffer) != size:
            whole = memoryview(mapping)
            self._buffer = (whole if "w" in self.access else whole.toreadonly())[:size]
        return self._buffer

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """A copy of ``size`` bytes, or of everything from ``offset`` on. Raises :class:`ConfigError` outside the bounds."""
        mapping = self._mapping()
        have = self.size
        end = have if size is None else offset + size
        if not 0 <= offset <= end <= have:
            raise ConfigError(f"{self.name}: bytes {offset} to {end} are not within its {have}")
        return mapping[offset:end]

    def write(self, content: bytes | bytearray | memoryview, offset: int = 0) -> None:
        """Copy ``content`` in. Raises :class:`ConfigError` outside the bounds or where this process may only read."""
        mapping = self._mapping(writable=True)
        raw = content if type(content) is bytes else memoryview(content).cast("B")
        end = offset + len(raw)
        if not 0 <= offset <= end <= self.size:
            raise ConfigError(f"{self.name}: bytes {offset} to {end} are not within its {self.size}")
        mapping[offset:end] = raw  # type: ignore[assignment,unused-ignore]  # any bytes-like

    def _mapping(self, writable: bool = False) -> mmap.mmap:
        if self._map is None:
            raise ClosedError(f"shared memory {self.name} is closed")
        if writable and "w" not in self.access:
            raise ConfigError(f"{self.name}: this process may only read it ({self.access})")
        return self._map

    # ---- giving it to others ----

    def grant(self, access: str = "r") -> Grant:
        """What gives another process this access, for :func:`supervisor.model.grant.format_grants`.

        A reader of memory created with ``grant="r"``, or sealed, cannot write whatever it does. A reader of memory that
        others may write gets a descriptor that cannot write; but a hostile process of the same user, or root, can reopen
        it in /proc: seal it once the writers have mapped it.

        Raises :class:`ConfigError` beyond what may be granted, :class:`UnsupportedError` without /proc, :class:`ClosedError`.
        """
        self._mapping()
        if access not in ACCESSES or not set(access) <= set(self._most):
            raise ConfigError(f"{self.name}: {access!r} cannot be granted, at most {self._most!r}")
        if "w" in self.access and "w" not in access and self._read_only_fd < 0:
            self._read_only_fd = memfd.reopen_read_only(self._fd)
        fd = self._read_only_fd if "w" not in access and self._read_only_fd >= 0 else self._fd
        return Grant(name=self.name, kind=SEGMENT, mode=access, size_bytes=self.size, limit_bytes=self._limit, fds=(fd,))

    def seal(self) -> None:
        """From now on nobody can begin to write; who has it mapped for writing goes on. Grants of ``rw`` end with it.

        Needs Linux 5.1; raises OSError, :class:`ClosedError`. Sealing twice is no error.
        """
        self._mapping()
        try:
            memfd.add_seals(self._fd, memfd.SEAL_FUTURE_WRITE | memfd.SEAL)
        except PermissionError:
            if not memfd.seals(self._fd) & (memfd.SEAL_FUTURE_WRITE | memfd.SEAL_WRITE):
                raise
        self._most = self._most.replace("w", "")

    # ---- the end ----

    @property
    def closed(self) -> bool:
        return self._map is None

    def close(self) -> None:
        """Give up the mapping and the descriptors; views that are still held keep the memory. Safe to call twice."""
        if self._map is None:
            return
        mapping, self._map, self._buffer = self._map, None, None
        try:
            mapping.close()
        except BufferError:
            pass  # somebody holds a view: the mapping ends with the last one
        for fd in (self._fd, self._read_only_fd) if self._owned else ():
            if fd >= 0:
                os.close(fd)
        self._fd = self._read_only_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            self.close()

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.access}, {self.size} bytes"
        return f"<{type(self).__name__} {self.name}: {state}>"


def _file_size(size_bytes: int, limit_bytes: int) -> int:
    """Bytes of the file: exactly the size; with room to grow, whole pages up to the limit and one more for the size."""
    return size_bytes if limit_bytes == size_bytes else (limit_bytes + _PAGE - 1) // _PAGE * _PAGE + _PAGE


def _map(fd: int, size_bytes: int, access: str) -> mmap.mmap:
    keywords = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # before, mmap keeps a duplicate of the descriptor
    try:
        return mmap.mmap(fd, size_bytes, flags=mmap.MAP_SHARED, prot=_PROTECTION[access], **keywords)
    except PermissionError:
        raise ConfigError(f"this process cannot map the memory {access!r}: it was granted less, or sealed meanwhile") from None
    except (ValueError, OverflowError) as error:
        raise OSError(errno.ENOMEM, str(error)) from None
