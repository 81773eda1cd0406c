# SPDX-License-Identifier: Apache-2.0
"""Hostile: leaves pipes, devices, sockets and a file of a TiB as its output."""

import os
import signal
import socket
import stat
import sys

from attack import attempt

folder = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
os.mkfifo(f"{folder}/pipe")
with socket.socket(socket.AF_UNIX) as server:
    server.bind(f"{folder}/socket")
attempt("device", lambda: os.mknod(f"{folder}/device", 0o600 | stat.S_IFBLK, os.makedev(254, 0)))
attempt("memory device", lambda: os.mknod(f"{folder}/mem", 0o600 | stat.S_IFCHR, os.makedev(1, 1)))
with open(f"{folder}/sparse", "wb") as file:
    attempt("a TiB", lambda: file.truncate(1 << 40))
