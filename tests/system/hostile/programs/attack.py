# SPDX-License-Identifier: Apache-2.0
"""What hostile programs share: an attempt says ``refused WHAT: ERROR`` or ``escaped WHAT``, and the program goes on."""

import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def attempt(what, call):
    """Try something that must not work; tells whether it was refused."""
    try:
        result = call()
    except OSError as error:
        print(f"refused {what}: {errno.errorcode.get(error.errno, error.errno)}", flush=True)
        return True
    print(f"escaped {what}: {result!r}"[:200], flush=True)
    return False


def raw(function, *arguments):
    """Call a function of the C library; raises OSError when it gives -1."""
    ctypes.set_errno(0)
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def system(number, *arguments):
    """Make a system call by its number; raises OSError when it fails."""
    words = [ctypes.c_long(argument) for argument in (*arguments, *[0] * 6)[:6]]
    return raw(libc.syscall, ctypes.c_long(number), *words)
