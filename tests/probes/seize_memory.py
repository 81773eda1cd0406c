# SPDX-License-Identifier: Apache-2.0
"""Tries everything a process can do to change or execute the memory behind a descriptor: seize_memory.py FD BYTES.

Prints what was possible, separated by commas.
"""

import ctypes
import mmap
import os
import sys

fd, size = int(sys.argv[1]), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
done = []


def attempt(name, action):
    try:
        action()
    except OSError:
        return
    done.append(name)


def protect(fd, wanted):
    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if at == ctypes.c_void_p(-1).value or libc.mprotect(at, size, wanted):
        raise OSError(ctypes.get_errno(), "mprotect")


def punch(fd):
    if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(size)):
        raise OSError(ctypes.get_errno(), "fallocate")


def reopen(flags):
    return os.open(f"/proc/self/fd/{fd}", flags)


def attack(who, fd):
    attempt(who + " mapped writable", lambda: mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
    attempt(who + " made writable", lambda: protect(fd, mmap.PROT_READ | mmap.PROT_WRITE))
    attempt(who + " wrote", lambda: os.pwrite(fd, b"!", 0))
    attempt(who + " grew", lambda: os.ftruncate(fd, size * 4))
    attempt(who + " shrank", lambda: os.ftruncate(fd, 0))
    attempt(who + " punched a hole", lambda: punch(fd))


attack("given", fd)
attempt("chmod x", lambda: os.fchmod(fd, 0o777))
try:
    os.fchmod(fd, 0o666)
except OSError:
    pass
for flags, word in ((os.O_RDWR, "reopened"), (os.O_WRONLY, "reopened to write")):
    try:
        again = reopen(flags)
    except OSError:
        continue
    attack(word, again)
attempt("truncated on opening", lambda: reopen(os.O_RDWR | os.O_TRUNC))
attempt("executed", lambda: os.execve(fd, ["x"], {}))
print(",".join(done))
