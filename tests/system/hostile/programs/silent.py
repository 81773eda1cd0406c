# SPDX-License-Identifier: Apache-2.0
"""Hostile: closes its standard streams and sleeps."""

import os
import time

for fd in (0, 1, 2):
    os.close(fd)
time.sleep(1000)
