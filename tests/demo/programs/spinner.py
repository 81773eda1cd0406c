# SPDX-License-Identifier: Apache-2.0
"""Hostile: computes nothing, for ever, in two processes, so that only counting the whole tree catches it in time."""

from __future__ import annotations

import os

os.fork()
while True:
    pass
