# SPDX-License-Identifier: Apache-2.0
"""Hostile: leaves links to the host's files in its work folder, soft and hard, and swaps one all the time."""

import os
import sys

from attack import attempt

work, canary = sys.argv[1:]
attempt("hard link", lambda: os.link(f"{canary}/file", f"{work}/hard"))
attempt("rename out", lambda: os.rename(f"{canary}/file", f"{work}/moved"))
attempt("write by a link", lambda: (os.symlink(f"{canary}/file", f"{work}/to_file"), open(f"{work}/to_file", "w"))[1])
os.symlink("/etc", f"{work}/etc")
os.symlink("/proc/self/root", f"{work}/root")
os.symlink("loop", f"{work}/loop")
for _ in range(200):
    os.symlink(canary, f"{work}/swap")
    os.unlink(f"{work}/swap")
os.symlink(canary, f"{work}/data")
