# SPDX-License-Identifier: Apache-2.0
"""Hostile: speaks to devices and to the kernel's log."""

import fcntl
import os
import stat

from attack import attempt, libc, raw

for name in ("kmsg", "mem", "kvm", "fuse", "vda", "sda", "loop0", "console", "tty0", "input", "net/tun"):
    attempt(name, lambda name=name: os.close(os.open(f"/dev/{name}", os.O_RDWR)))
for number in (3, 5, 8):
    attempt(f"syslog {number}", lambda number=number: raw(libc.klogctl, number, None, 0))
with open("/dev/random", "rb") as file:
    attempt("add entropy", lambda: fcntl.ioctl(file, 0x40085203, bytes(8)))
attempt("make a device", lambda: os.mknod("/tmp/zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5)))
print("devices", *sorted(os.listdir("/dev")))
