# SPDX-License-Identifier: Apache-2.0
"""SharedMemory: named segments and rings for the supervisor and its jobs. A job may import this; it loads no asyncio."""

from __future__ import annotations

import os

from supervisor.kernel.segment import Segment, size_of
from supervisor.model.environment import OwnEnvironment
from supervisor.model.grant import VARIABLE, Grant, format_grants
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.runtime.ring import Ring, RingReader, RingWriter


@value
class Handover:
    """What :meth:`Supervisor.start` and :func:`run` need to give shared memory to a job."""

    pass_fds: tuple[int, ...]
    env: Mapping[str, str]


class SharedMemory(Segment):
    """Owns one named, sealed piece of memory that is shared with jobs; see :class:`Segment` for its methods."""

    @staticmethod
    def hand_over(*grants: Grant, env: Mapping[str, str] | None = None) -> Handover:
        """The descriptors and the environment that give a job these grants.

        ``env`` is the job's environment, this process's own when it is ``None`` (of which a sandbox with a clean
        environment gets the added variable alone). The grants' owners must stay open
        until the job has started. Raises :class:`ConfigError` when two grants have one name.
        """
        added = {VARIABLE: format_grants(grants)}
        environment = OwnEnvironment(os.environ, added) if env is None else {**env, **added}
        return Handover(pass_fds=tuple(dict.fromkeys([fd for grant in grants for fd in grant.fds])), env=environment)

    @staticmethod
    def create_ring(name: str, capacity: int | str = "1M", *, readers: int = 1, broadcast: bool = False, prefault: bool = False) -> Ring:
        """A ring of messages: one writer, one reader (or with ``broadcast`` many, and the writer waits for none).

        ``capacity`` is rounded up to a power of two. Raises ConfigError, UnsupportedError, OSError.
        """
        from supervisor.runtime.ring import Ring

        return Ring(name, size_of("capacity", capacity), readers, broadcast, prefault)

    @staticmethod
    def open_writer(name: str) -> RingWriter:
        """The writing end of this name that this process was given; raises ConfigError, CorruptError."""
        from supervisor.runtime.ring import RingWriter

        return RingWriter.open(name)

    @staticmethod
    def open_reader(name: str) -> RingReader:
        """The reading end of this name that this process was given; raises ConfigError, CorruptError."""
        from supervisor.runtime.ring import RingReader

        return RingReader.open(name)
