# SPDX-License-Identifier: Apache-2.0
"""Hostile: takes memory of one kind until it is stopped, at most 192 MiB."""

import ctypes
import mmap
import os
import sys

from attack import attempt, libc, raw

MIB = 1 << 20
KIND = sys.argv[1]


def touch():
    kept = []
    for _ in range(192):
        kept.append(bytearray(MIB))
    return len(kept)


def child():
    """The child takes it, the parent does not care and exits 0."""
    if os.fork() == 0:
        touch()
        os._exit(0)
    os.wait()
    os._exit(0)


def memfd():
    fd = os.memfd_create("hidden")
    for _ in range(192):
        os.write(fd, bytes(MIB))


def sysv():
    libc.shmat.restype = ctypes.c_void_p
    segment = raw(libc.shmget, 0, ctypes.c_size_t(192 * MIB), 0o1600)
    start = libc.shmat(segment, None, 0)
    for at in range(0, 192 * MIB, 4096):
        ctypes.c_char.from_address(start + at).value = b"x"


def pipes():
    """Full pipes are the kernel's own memory."""
    for _ in range(2000):
        _reading, writing = os.pipe()
        os.set_blocking(writing, False)
        while True:
            try:
                os.write(writing, bytes(65536))
            except BlockingIOError:
                break


def huge():
    attempt("huge pages", lambda: mmap.mmap(-1, 4 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))


def reserve():
    held = mmap.mmap(-1, 100 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    print("held", len(held) >> 30, "GiB")


def lock():
    attempt("mlockall", lambda: raw(libc.mlockall, 3))


globals()[KIND]()
if KIND not in ("huge", "reserve", "lock"):
    print("escaped: took 192 MiB")
