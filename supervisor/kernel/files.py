# SPDX-License-Identifier: Apache-2.0
"""Files that outside people name: bounded reads, and results that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

from supervisor.errors import ConfigError
from supervisor.kernel import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.model.sandbox import Overlay


def read_text(path: str, most_bytes: int, check: Callable[[os.stat_result], str] | None = None) -> str:
    """The text of a regular file of at most ``most_bytes``; raises :class:`ConfigError` naming the file.

    Neither a FIFO nor a device is waited for or read. ``check`` sees the open file's own stat and may
    say why it must not be used.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(error.strerror or str(error), source=path) from None
    except ValueError:  # a NUL, or a lone surrogate
        raise ConfigError("is no path the kernel can take", source=path.encode("utf-8", "backslashreplace").decode()) from None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError("is not a regular file", source=path)
        if check is not None and (reason := check(about)):
            raise ConfigError(reason, source=path)
        if about.st_size > most_bytes:
            raise ConfigError(f"larger than {most_bytes} bytes, which no policy needs", source=path)
        raw = _read_all(fd, path, most_bytes + 1)
    finally:
        os.close(fd)
    if len(raw) > most_bytes:  # it grew, or its file system does not say how large it is
        raise ConfigError(f"larger than {most_bytes} bytes, which no policy needs", source=path)
    try:
        return raw.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text at byte {error.start}", source=path) from None


def _read_all(fd: int, path: str, most_bytes: int) -> bytes:
    raw = b""
    try:
        while len(raw) < most_bytes and (more := os.read(fd, most_bytes - len(raw))):
            raw += more
    except OSError as error:
        raise ConfigError(error.strerror or str(error), source=path) from None
    return raw


def make_upper(overlay: Overlay) -> None:
    """The directories in which an overlay keeps its changes: ``changes``, and ``work`` for the kernel. Raises :class:`ConfigError`."""
    if overlay.upper is None:
        return
    for name in ("changes", "work"):
        try:
            os.makedirs(f"{overlay.upper}/{name}", exist_ok=True)
        except OSError as error:
            raise ConfigError(f"upper: {error.filename}: {error.strerror}", source=f"overlay {overlay.source!r}") from None


def _link(fd: int, folder: str, name: str) -> None:
    """Give a nameless file a name; with a directory descriptor, so that Python takes linkat(2), which follows /proc's link."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder_fd)
    finally:
        os.close(folder_fd)


class ResultFile:
    """Owns the place of a result: opened before the work starts, put into place whole at the end.

    Until then the bytes are in a file without a name (O_TMPFILE, Linux 3.11), so that not even SIGKILL leaves
    anything behind. A character device (``/dev/null``, a terminal) is written directly. Raises
    :class:`ConfigError` at once when the path is a FIFO, a directory or not writable.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._nameless = False
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        except OSError as error:
            raise ConfigError(f"result: {error.strerror}", source=path) from None
        if stat.S_ISCHR(mode):
            self._fd = self._open(path, os.O_WRONLY)
        elif stat.S_ISREG(mode):
            self._nameless = True
            try:
                self._path = os.path.realpath(path)
            except OSError as error:  # the working directory is gone
                raise ConfigError(f"result: {error.strerror}", source=path) from None
            self._fd = self._open_nameless()
        else:
            raise ConfigError("result: is not a regular file; a result must be readable after the end", source=path)

    def _open_nameless(self) -> int:
        folder = os.path.dirname(self._path)
        try:
            return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL) or not os.access(folder, os.W_OK):
                raise ConfigError(f"result: {error.strerror}", source=self._path) from None
        return -1  # a file system without nameless files: a named one, at the end only

    def _open(self, path: str, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise ConfigError(f"result: {error.strerror}", source=path) from None

    def write(self, text: str) -> None:
        """Write it all and put it in place; raises :class:`ConfigError` and leaves nothing half-done (disk full)."""
        folder, name = os.path.split(self._path)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}-{native.now_ns()}") if self._nameless else ""
        try:
            if self._fd < 0:
                self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            raw = text.encode()
            while raw:
                raw = raw[os.write(self._fd, raw) :]
            if temporary and not os.path.exists(temporary):
                _link(self._fd, folder, os.path.basename(temporary))
            if temporary:
                os.rename(temporary, self._path)
        except OSError as error:
            if temporary and os.path.exists(temporary):
                os.unlink(temporary)
            raise ConfigError(f"result: {error.strerror}", source=self._path) from None
        finally:
            self.close()

    def close(self) -> None:
        """Drop what was not written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
