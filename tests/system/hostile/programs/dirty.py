# SPDX-License-Identifier: Apache-2.0
"""Hostile: writes three times its memory to a disk."""

import os
import sys

with open(f"{sys.argv[1]}/dirty", "wb", buffering=0) as file:
    for _ in range(96):
        file.write(bytes(1 << 20))
os.unlink(f"{sys.argv[1]}/dirty")
print("written")
