# SPDX-License-Identifier: Apache-2.0
"""Hostile: wants to leave its cgroup, freeze it, raise its limits, or make one of its own."""

import os

from attack import attempt, libc, raw


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/tmp/cgroup"):
    attempt(f"mkdir {root}", lambda root=root: os.mkdir(f"{root}/mine"))
    for name, text in (
        ("cgroup.procs", str(os.getpid())),
        ("memory.max", "max"),
        ("pids.max", "max"),
        ("cgroup.freeze", "1"),
        ("cgroup.kill", "1"),
    ):
        attempt(f"write {root}/{name}", lambda root=root, name=name, text=text: write(f"{root}/{name}", text))
os.mkdir("/tmp/mount")
attempt("mount", lambda: raw(libc.mount, b"cgroup2", b"/tmp/mount", b"cgroup2", 0, None))
print("in", open("/proc/self/cgroup").read().split()[-1])
