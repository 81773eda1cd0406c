# SPDX-License-Identifier: Apache-2.0
"""The notification socket: the kernel names the sender, descriptors are handed over once, nothing is left in the file system."""

from __future__ import annotations

import array
import os
import socket

from supervisor.kernel.notify_socket import FDS_MAX, NotifySocket
from supervisor.model.notification import DATAGRAM_MAX_BYTES


def sender(notify: NotifySocket) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.connect("\0" + notify.address[1:])
    return made


def test_a_datagram_comes_with_the_process_that_sent_it() -> None:
    """Ours, and a child's; nobody is asked, the kernel says so."""
    notify = NotifySocket()
    with sender(notify) as ours:
        assert notify.address.startswith("@") and notify.receive() is None
        ours.send(b"READY=1")
        pid = os.fork()
        if pid == 0:
            ours.send(b"STOPPING=1")
            os._exit(0)
        os.waitpid(pid, 0)
        found = [notify.receive(), notify.receive(), notify.receive()]
    notify.close()
    assert [(datagram.raw, datagram.pid, fds) for one in found if one is not None for datagram, fds in [one]] == [
        (b"READY=1", os.getpid(), []),
        (b"STOPPING=1", pid, []),
    ]


def test_every_descriptor_that_comes_along_is_handed_over() -> None:
    """As many as a message can carry, all close-on-exec."""
    notify = NotifySocket()
    with sender(notify) as ours, open("/dev/null", "rb") as null:
        ours.sendmsg([b"FDSTORE=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()] * FDS_MAX))])
        received = notify.receive()
    notify.close()
    assert received is not None
    datagram, fds = received
    assert (datagram.pid, len(fds)) == (os.getpid(), FDS_MAX)
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)


def test_a_datagram_that_is_too_long_is_cut() -> None:
    notify = NotifySocket()
    with sender(notify) as ours:
        ours.send(b"x" * 3 * DATAGRAM_MAX_BYTES)
        received = notify.receive()
    notify.close()
    notify.close()
    assert received is not None and received[0].raw == b"x" * DATAGRAM_MAX_BYTES


def test_addresses_are_never_shared() -> None:
    sockets = [NotifySocket() for _ in range(50)]
    assert len({notify.address for notify in sockets}) == 50
    for notify in sockets:
        notify.close()


def test_a_socket_in_the_file_system_goes_with_its_owner() -> None:
    """For sandboxes: anybody may speak, nobody may list the folder, and nothing is left."""
    notify = NotifySocket(in_file_system=True)
    folder = os.path.dirname(notify.address)
    assert os.stat(notify.address).st_mode & 0o777 == 0o666 and os.stat(folder).st_mode & 0o777 == 0o711
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.sendto(b"READY=1", notify.address)
    received = notify.receive()
    notify.close()
    notify.close()
    assert received is not None and received[0].pid == os.getpid()
    assert not os.path.exists(folder)
