# SPDX-License-Identifier: Apache-2.0
"""The cffi declaration of ``supervisor._native``, API mode: layout.h, notice.h and cdef.h are read word for word."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
for name in ("layout.h", "notice.h", "cdef.h"):
    ffibuilder.cdef((Path(__file__).parent / name).read_text())
ffibuilder.set_source("supervisor._native", '#include "ringfence.h"', py_limited_api=True)
