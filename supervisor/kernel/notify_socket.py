# SPDX-License-Identifier: Apache-2.0
"""The supervisor's end of sd_notify(3): a datagram socket whose senders the kernel names."""

from __future__ import annotations

import array
import os
import socket
import struct

from supervisor.kernel.native import close_socket
from supervisor.model.notification import DATAGRAM_MAX_BYTES
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: struct ucred of unix(7): pid, uid, gid.
UCRED: Final = struct.Struct("iII")
#: Descriptors a datagram may carry (SCM_MAX_FD of Linux); all are closed.
FDS_MAX: Final = 253
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(UCRED.size) + socket.CMSG_SPACE(FDS_MAX * 4)


@value
class Datagram:
    """What was sent and by which process, as the kernel saw it; ``pid`` is 0 for one that we cannot see."""

    raw: bytes
    pid: int


class NotifySocket:
    """Owns one notification socket. Its abstract address (unix(7)) leaves no file, however its owner dies.

    ``in_file_system``: a path instead, to be bound into a sandbox, where abstract addresses of the host do not reach. A supervisor
    that is killed leaves that one behind, an empty socket below the run-time directory.
    """

    def __init__(self, *, in_file_system: bool = False) -> None:
        """Raises OSError; nothing is left open then."""
        self._folder = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            #: For the variable NOTIFY_SOCKET.
            self.address = self._bind_path() if in_file_system else self._bind_abstract()
        except BaseException:
            self.close()
            raise

    def _bind_abstract(self) -> str:
        self._socket.bind("")  # the kernel chooses an address that nobody has (Linux autobind)
        name: bytes = self._socket.getsockname()
        return "@" + os.fsdecode(name[1:])

    def _bind_path(self) -> str:
        import tempfile  # for services in a sandbox only

        places = (os.environ.get("XDG_RUNTIME_DIR", ""), "/run")
        self._folder = tempfile.mkdtemp(prefix="ringfence-", dir=next((place for place in places if os.access(place, os.W_OK)), None))
        os.chmod(self._folder, 0o711)  # the service may run as another user; the kernel names who speaks
        path = f"{self._folder}/notify"
        self._socket.bind(path)
        os.chmod(path, 0o666)
        return path

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> tuple[Datagram, list[int]] | None:
        """The next datagram with the descriptors that came along, which are the caller's to close; None when there is none.

        A datagram that is longer than the protocol allows is cut. The credentials are those of the sending process: the kernel
        lets only CAP_SYS_ADMIN name another.
        """
        try:
            raw, ancillary, _, _ = self._socket.recvmsg(DATAGRAM_MAX_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        pid = 0
        fds: list[int] = []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                fds += numbers
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = int(UCRED.unpack(content[: UCRED.size])[0])
        return Datagram(raw=raw, pid=pid), fds

    def close(self) -> None:
        """Close it and remove its file; safe to call twice."""
        if self._socket.fileno() >= 0:
            close_socket(self._socket.detach())
        if self._folder:
            for remove, path in ((os.unlink, f"{self._folder}/notify"), (os.rmdir, self._folder)):
                try:
                    remove(path)
                except FileNotFoundError:
                    continue
            self._folder = ""
