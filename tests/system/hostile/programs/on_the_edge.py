# SPDX-License-Identifier: Apache-2.0
"""Hostile: ends by itself just when its processor time is over."""

import os
import sys
import time

while time.process_time() < float(sys.argv[1]):
    pass
os._exit(0)
