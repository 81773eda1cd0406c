# SPDX-License-Identifier: Apache-2.0
"""Hostile: raises its own limits."""

import ctypes
import resource

from attack import attempt, libc, raw

for name in ("NOFILE", "NPROC", "FSIZE", "CORE", "MEMLOCK"):
    kind = getattr(resource, "RLIMIT_" + name)
    more = (ctypes.c_ulong * 2)(*[resource.getrlimit(kind)[1] + 1] * 2)
    attempt(f"setrlimit {name}", lambda kind=kind, more=more: raw(libc.setrlimit, kind, more))
    attempt(f"prlimit {name}", lambda kind=kind, more=more: raw(libc.prlimit, 0, kind, more, None))
