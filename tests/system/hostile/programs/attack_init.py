# SPDX-License-Identifier: Apache-2.0
"""Hostile: attacks process 1: reads, writes, traces and overwrites it."""

import os

from attack import attempt, libc, raw

for name, mode in (("mem", "rb"), ("mem", "r+b"), ("exe", "rb"), ("exe", "r+b"), ("environ", "rb"), ("maps", "rb"), ("fd/0", "r+b")):
    attempt(f"open {name} {mode}", lambda name=name, mode=mode: open(f"/proc/1/{name}", mode, buffering=0).read(1))
for name in ("root", "cwd"):
    attempt(f"list {name}", lambda name=name: os.listdir(f"/proc/1/{name}"))
attempt("own program", lambda: open("/proc/self/exe", "r+b"))
attempt("attach", lambda: raw(libc.ptrace, 16, 1, 0, 0))
attempt("seize", lambda: raw(libc.ptrace, 0x4206, 1, 0, 0))
attempt("write memory", lambda: raw(libc.process_vm_writev, 1, None, 0, None, 0, 0))
for name in ("mnt", "pid", "user"):
    attempt(f"enter {name}", lambda name=name: raw(libc.setns, os.open(f"/proc/1/ns/{name}", os.O_RDONLY), 0))
