# SPDX-License-Identifier: Apache-2.0
"""Hostile: crashes, with as large a core as it may have."""

import ctypes
import resource

resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
ctypes.string_at(0)
