# SPDX-License-Identifier: Apache-2.0
"""Hostile: reaches for the host: abstract sockets, TCP, vsock, raw and audit sockets."""

import socket
import sys

from attack import attempt


def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)


attempt("abstract socket", lambda: connect(socket.AF_UNIX, "\0" + sys.argv[1]))
attempt("loopback", lambda: connect(socket.AF_INET, ("127.0.0.1", int(sys.argv[2]))))
attempt("loopback 6", lambda: connect(socket.AF_INET6, ("::1", int(sys.argv[2]))))
attempt("metadata service", lambda: connect(socket.AF_INET, ("169.254.169.254", 80)))
attempt("vsock", lambda: connect(40, (2, 1)))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("audit", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9))
attempt("kernel crypto", lambda: socket.socket(38, socket.SOCK_SEQPACKET))
print("interfaces", [name for _, name in socket.if_nameindex()])
