# SPDX-License-Identifier: Apache-2.0
"""Hostile: prints every byte there is, slowly, without a line's end until late."""

import os
import time

for byte in range(256):
    os.write(1, bytes([byte]))
    if byte % 64 == 0:
        time.sleep(0.02)
