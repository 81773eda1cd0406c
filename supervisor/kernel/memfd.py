# SPDX-License-Identifier: Apache-2.0
"""memfds: memory that is a file without a name, and the seals that nobody can take off again.

What the kernel enforces, tried on 6.18:

- F_SEAL_SHRINK and F_SEAL_GROW: nobody changes the size, so a mapping never faults behind its end.
- F_SEAL_FUTURE_WRITE (Linux 5.1): nobody writes any more, neither through a new mapping, nor mprotect(2), nor write(2),
  nor a descriptor reopened for writing in /proc, root included; mappings made before go on writing.
- F_SEAL_WRITE: nobody writes at all. It needs that no writable mapping is left.
- F_SEAL_EXEC with a file that is not executable (MFD_NOEXEC_SEAL, Linux 6.3): nobody can execve(2) it, and nobody can make
  it executable. It does not keep a process from mapping it executable.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from supervisor.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SEAL: Final = 0x01
SEAL_SHRINK: Final = 0x02
SEAL_GROW: Final = 0x04
SEAL_WRITE: Final = 0x08
SEAL_FUTURE_WRITE: Final = 0x10
SEAL_EXEC: Final = 0x20
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034
_NOEXEC_SEAL: Final = 0x08
_EXEC: Final = 0x10


def create(name: str, size_bytes: int, *, executable: bool = False) -> int:
    """A new memfd of that size, of fixed size from now on, for its owner only. Raises OSError, UnsupportedError."""
    fd = _create(f"ringfence:{name}", executable)
    try:
        os.fchmod(fd, 0o700 if executable else 0o600)
        os.ftruncate(fd, size_bytes)
        add_seals(fd, SEAL_SHRINK | SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create(name: str, executable: bool) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | (_EXEC if executable else _NOEXEC_SEAL))
    except OSError as error:
        if error.errno == errno.EACCES and executable:
            raise UnsupportedError("executable shared memory", "the host forbids it: sysctl vm.memfd_noexec is 2") from None
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create(name, flags)  # before Linux 6.3 there are no such flags


def add_seals(fd: int, seals: int) -> None:
    """Add seals; raises OSError: EPERM when the seals are sealed, EBUSY when SEAL_WRITE meets a writable mapping."""
    fcntl.fcntl(fd, _F_ADD_SEALS, seals)


def seals(fd: int) -> int:
    """The seals on it; raises OSError (EINVAL: not a memfd)."""
    return fcntl.fcntl(fd, _F_GET_SEALS)


def unreadable(fd: int) -> str:
    """What is wrong with memory from somebody else for who wants to read it; empty when nothing is. Raises OSError."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        return "cannot be read"
    if os.fstatvfs(fd).f_bsize != mmap.PAGESIZE:
        return "has huge pages, which may not be there when they are touched"
    return ""


def allocate(fd: int, size_bytes: int) -> None:
    """Take all pages now, at the caller's cost; raises OSError: ENOMEM or ENOSPC when there are not enough."""
    os.posix_fallocate(fd, 0, size_bytes)


def reopen_read_only(fd: int) -> int:
    """A descriptor of the same memory that cannot write or map writable, whatever seals there are. Raises UnsupportedError."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise UnsupportedError("read-only shared memory", f"/proc cannot be used here ({error.strerror})") from None
