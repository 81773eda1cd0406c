# SPDX-License-Identifier: Apache-2.0
"""Capture and Tee: where a job's output goes when one descriptor does not say it."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.spec import COLLECT, DEVNULL, PIPE, RELAY, STDOUT
from supervisor.model.units import parse_bytes
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: Less than a page a file would be all rotation.
MAX_BYTES_LEAST: Final = 4096
KEEP_MOST: Final = 1000
#: NAME_MAX of limits.h, in bytes.
NAME_MAX_BYTES: Final = 255


@value
class Capture:
    """A file that takes a job's output, by splice(2) where the file takes it: no byte is copied through Python.

    ``path``: a regular file, made when it is missing, never a symbolic link; emptied first unless ``append``.
    ``max_bytes``: a file that is as large is renamed to ``path.1`` (an older one to ``path.2``, and so on up to ``keep``
    old files; with 0 none is kept) and the next byte goes to a new one; exact to the byte. ``lines``: a file ends
    at the first line end within its last 64 KiB (its last quarter, if that is less), at ``max_bytes`` when there is none.

    A file that takes no more (disk full, quota) does not hold the job up: what comes meanwhile is lost and counted, an ``Error``
    event tells it at once, a warning in the outcome in the end, and the file is tried again every second.
    Raises :class:`ConfigError` with every problem found.
    """

    path: str
    max_bytes: int | None = None
    keep: int = 1
    lines: bool = False
    append: bool = False

    def __init__(self, path: Any, *, max_bytes: int | str | None = None, keep: int = 1, lines: bool = False, append: bool = False) -> None:
        name, problems = _file_name(path)
        most: int | float | None = None
        try:
            most = None if max_bytes is None else parse_bytes(max_bytes)
        except ValueError as error:
            problems.append(f"max_bytes: {error}")
        if most is not None and most < MAX_BYTES_LEAST:
            problems.append(f"max_bytes: must be at least {MAX_BYTES_LEAST}")
        if not isinstance(keep, int) or isinstance(keep, bool) or not 0 <= keep <= KEEP_MOST:
            problems.append(f"keep: must be a number of files, 0 to {KEEP_MOST}")
        elif len(f"{name.rpartition('/')[2]}.{keep}".encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES:
            problems.append(f"path: {path!r} leaves no room for the numbers of old files in a name of {NAME_MAX_BYTES} bytes")
        if lines and (max_bytes is None or most == float("inf")):
            problems.append("lines: says where a file of max_bytes ends, so max_bytes is needed")
        if problems:
            raise ConfigError(*[f"capture {problem}" for problem in problems])
        set_field(self, "path", name)
        set_field(self, "max_bytes", None if most is None or most == float("inf") else int(most))
        set_field(self, "keep", keep)
        set_field(self, "lines", bool(lines))
        set_field(self, "append", bool(append))


def _file_name(path: Any) -> tuple[str, list[str]]:
    """The path as text, and what is wrong with it."""
    given = path.__fspath__() if hasattr(path, "__fspath__") else path
    if isinstance(given, bytes):
        given = given.decode("utf-8", "surrogateescape")
    if not isinstance(given, str) or not given or "\0" in given or given.endswith("/"):
        return "", [f"path: {path!r} does not name a file"]
    try:
        given.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "", [f"path: {path!r} holds a lone surrogate, for which there are no bytes"]
    return given, []


@value
class Tee:
    """Two places for one stream, each of which gets every byte: ``Tee(PIPE, Capture("log"))``.

    A place is ``PIPE``, a :class:`Capture`, a descriptor, an open file, or ``None`` for the caller's own stream. The job goes as
    fast as the slower of the two; a reader that leaves does not end the other. Raises :class:`ConfigError`.
    """

    targets: tuple[Any, ...]

    def __init__(self, first: Any, second: Any) -> None:
        targets = tuple([_target(target) for target in (first, second)])
        if targets[0] == targets[1] or all(target in (PIPE, COLLECT) for target in targets):
            raise ConfigError("tee: both places are the same")
        if all(isinstance(target, Capture) for target in targets):
            raise ConfigError("tee: two captures are not supported; give one file, or a descriptor beside it")
        set_field(self, "targets", targets)

    def collecting(self) -> Tee:
        """The same with what PIPE means to ``run``: collected."""
        return Tee(*[COLLECT if target == PIPE else target for target in self.targets])


def _target(given: Any) -> Any:
    if given is None or isinstance(given, Capture):
        return given
    if isinstance(given, bool) or (isinstance(given, int) and given < 0 and given not in (PIPE, COLLECT)):
        meant = {DEVNULL: "DEVNULL", STDOUT: "STDOUT", RELAY: "RELAY"}.get(given, repr(given))
        raise ConfigError(f"tee: {meant} is no place for half of a stream")
    if isinstance(given, int):
        return given
    fileno = getattr(given, "fileno", None)
    if fileno is None:
        raise ConfigError(f"tee: must be PIPE, a Capture, a descriptor, a file or None, not {type(given).__name__}")
    return int(fileno())


if TYPE_CHECKING:
    OutputStream = int | Capture | Tee | None
