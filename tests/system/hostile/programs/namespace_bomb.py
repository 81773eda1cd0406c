# SPDX-License-Identifier: Apache-2.0
"""Hostile: asks for new namespaces again and again."""

from attack import libc, raw

refused = 0
for _ in range(5_000):
    try:
        raw(libc.unshare, 0x10000000 | 0x40000000 | 0x00020000)
    except OSError:
        refused += 1
print("refused" if refused == 5_000 else "escaped", refused)
