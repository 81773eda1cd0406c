# SPDX-License-Identifier: Apache-2.0
"""Hostile: uses every descriptor and every working directory that may have leaked."""

import os

from attack import attempt


def climb(start):
    os.chdir(start + "/.." * 30)
    return os.listdir("home")


for fd in (*range(3, 64), 255, 1000):
    attempt(f"descriptor {fd}", lambda fd=fd: os.fchdir(fd))
for start in ("/proc/self/cwd", "/proc/self/root", "/proc/1/cwd", "/proc/self/fd/3", "/tmp"):
    attempt(f"climb from {start}", lambda start=start: climb(start))
