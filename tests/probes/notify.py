# SPDX-License-Identifier: Apache-2.0
"""A service that follows orders: each argument is a step.

``send:TEXT`` one datagram to NOTIFY_SOCKET (``|`` is a new line), ``say:TEXT`` a line on standard output, ``tell:FD:TEXT`` a line on
a descriptor, ``sleep:SECONDS``, ``wait`` for ever, ``exit:CODE``, ``ping:SECONDS`` WATCHDOG=1 again and again, ``read:FD`` waits for a
byte or the end, ``deaf`` ignores SIGTERM, ``child:STEP`` does a step in a child that is waited for, ``hear:FD`` says on FD that SIGTERM came while it waits,
``fdstore`` passes a descriptor along, ``listen:PORT_FD:KIND`` listens (tcp, http-200, http-503), tells the port on PORT_FD, answers for ever.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys
import time


def notify_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
    return made


def listen(port_fd: int, kind: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    os.write(port_fd, b"%d\n" % listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        with connection:
            if kind.startswith("http"):
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 {kind[5:]} So\r\nContent-Length: 0\r\n\r\n".encode())


hearing: list[int] = []


def wait() -> None:
    """Until the end of the world, or of SIGTERM where it is heard; a handler and pause() would lose one that comes in between."""
    while not hearing:
        signal.pause()
    signal.sigwait([signal.SIGTERM])
    os.write(hearing[0], b"TERM\n")
    sys.exit(0)


def act(step: str) -> None:
    word, _, rest = step.partition(":")
    if word == "send":
        notify_socket().send(rest.replace("|", "\n").encode())
    elif word == "say":
        print(rest, flush=True)
    elif word == "tell":
        fd, _, text = rest.partition(":")
        os.write(int(fd), text.encode() + b"\n")
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "wait":
        wait()
    elif word == "exit":
        sys.exit(int(rest))
    elif word == "ping":
        while True:
            notify_socket().send(b"WATCHDOG=1")
            time.sleep(float(rest))
    elif word == "read":
        os.read(int(rest), 1)
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word == "child":
        pid = os.fork()
        if pid == 0:
            act(rest)
            os._exit(0)
        os.waitpid(pid, 0)
    elif word == "hear":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        hearing.append(int(rest))
    elif word == "fdstore":
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))
        notify_socket().sendmsg([b"FDSTORE=1\nFDNAME=mine"], [rights])
    elif word == "listen":
        fd, _, kind = rest.partition(":")
        listen(int(fd), kind)
    else:
        raise SystemExit(f"no such step: {step}")


for one in sys.argv[1:]:
    act(one)
