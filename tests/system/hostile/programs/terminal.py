# SPDX-License-Identifier: Apache-2.0
"""Hostile: types into the terminal it was started from."""

import fcntl
import os

from attack import attempt

print("terminal", os.isatty(0))
attempt("push a character", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("paste", lambda: fcntl.ioctl(0, 0x541C, b"\3"))
attempt("take the console", lambda: fcntl.ioctl(0, 0x541D))
attempt("line discipline", lambda: fcntl.ioctl(0, 0x5423, b"\3\0\0\0"))
attempt("own the terminal", lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
