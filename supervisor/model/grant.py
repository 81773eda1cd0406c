# SPDX-License-Identifier: Apache-2.0
"""What a process is told of the shared memory it was given: which descriptor is which, and what it may do.

A job inherits descriptors and one environment variable, ``RINGFENCE_SHARED_MEMORY``. It holds one entry for each
segment or end of a ring, separated by blanks, with five fields separated by colons::

    name:kind:mode:bytes:fd,fd,...

``kind`` is ``segment``, ``writer`` or ``reader``. ``mode`` is a segment's access (``r``, ``rw``, ``rx``, ``rwx``), a ring's
``queue`` or ``broadcast``. ``bytes`` is the size of a segment, ``size/limit`` of one that can grow, or a ring's capacity. The
descriptors are those of the memory; for a reader also its cell and its socket; for a writer also a cell and a socket for each
reader.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

VARIABLE: Final = "RINGFENCE_SHARED_MEMORY"
SEGMENT: Final = "segment"
WRITER: Final = "writer"
READER: Final = "reader"
QUEUE: Final = "queue"
BROADCAST: Final = "broadcast"
ACCESSES: Final = ("r", "rw", "rx", "rwx")
MODES: Final = {SEGMENT: ACCESSES, WRITER: (QUEUE, BROADCAST), READER: (QUEUE, BROADCAST)}
LARGEST_BYTES: Final = 1 << 46
NAME_MAX: Final = 64
#: A descriptor is an int of C.
DESCRIPTOR_MAX: Final = (1 << 31) - 1
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_name(name: object) -> str:
    """``name`` when it can name a segment or a ring; raises :class:`ConfigError`."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not _LETTERS.issuperset(name):
        raise ConfigError(f"name: {name!r} must be 1 to {NAME_MAX} letters, digits, dots, dashes and underscores")
    return name


@value
class Grant:
    """One named segment, or one end of a ring, as given to one process; descriptors are borrowed from their owner."""

    name: str
    kind: str
    mode: str
    size_bytes: int
    fds: tuple[int, ...]
    limit_bytes: int = 0

    def _check(self) -> None:
        check_name(self.name)
        if self.mode not in MODES.get(self.kind, ()):
            raise ConfigError(f"{self.name}: no {self.kind} has the mode {self.mode!r}")
        set_field(self, "limit_bytes", max(self.limit_bytes, self.size_bytes))
        if not 0 < self.size_bytes <= self.limit_bytes <= LARGEST_BYTES:
            raise ConfigError(f"{self.name}: {self.size_bytes} bytes is no size")
        if not _right_count(self.kind, len(self.fds)) or any(not 0 <= fd <= DESCRIPTOR_MAX for fd in self.fds):
            raise ConfigError(f"{self.name}: {len(self.fds)} descriptors are not what a {self.kind} has, or are no descriptors")


def _right_count(kind: str, count: int) -> bool:
    return count == 1 if kind == SEGMENT else count == 3 if kind == READER else count % 2 == 1


def format_grants(grants: Iterable[Grant]) -> str:
    """The variable's text. Raises :class:`ConfigError` when two grants have one name."""
    entries: dict[str, str] = {}
    for grant in grants:
        if grant.name in entries:
            raise ConfigError(f"{grant.name}: given twice to one process")
        size = str(grant.size_bytes) if grant.limit_bytes == grant.size_bytes else f"{grant.size_bytes}/{grant.limit_bytes}"
        entries[grant.name] = f"{grant.name}:{grant.kind}:{grant.mode}:{size}:{','.join(map(str, grant.fds))}"
    return " ".join(entries.values())


def parse_grants(text: str) -> dict[str, Grant]:
    """The grants of the variable's text by name. Raises :class:`ConfigError` naming the entry that is wrong."""
    found: dict[str, Grant] = {}
    for entry in text.split(" ") if text else ():
        fields = entry.split(":")
        try:
            name, kind, mode, size, fds = fields
            size, _, limit = size.partition("/")
            grant = Grant(
                name=name,
                kind=kind,
                mode=mode,
                size_bytes=_number(size),
                limit_bytes=_number(limit) if limit else 0,
                fds=tuple([_number(fd) for fd in fds.split(",")]),
            )
        except ConfigError as error:
            raise ConfigError(*error.problems, source=VARIABLE) from None
        except ValueError:
            raise ConfigError(f"{entry[:80]!r} is not name:kind:mode:bytes:fd,fd,...", source=VARIABLE) from None
        if name in found:
            raise ConfigError(f"{name}: given twice", source=VARIABLE)
        found[name] = grant
    return found


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError(text)
    return int(text)
