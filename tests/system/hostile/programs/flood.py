# SPDX-License-Identifier: Apache-2.0
"""Hostile: prints without end."""

import os
import sys

while True:
    os.write(int(sys.argv[1]), b"x" * 65536)
