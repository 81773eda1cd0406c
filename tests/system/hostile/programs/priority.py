# SPDX-License-Identifier: Apache-2.0
"""Hostile: wants more of the processor than its share."""

import os

from attack import attempt, libc, raw

attempt("nice", lambda: os.nice(-10))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt("real time disk", lambda: raw(libc.syscall, 251 if os.uname().machine == "x86_64" else 30, 1, 0, 1 << 13))
try:
    os.sched_setaffinity(0, range(os.cpu_count()))
except OSError:
    pass
print("processors", sorted(os.sched_getaffinity(0)))
