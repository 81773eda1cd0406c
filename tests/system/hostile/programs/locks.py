# SPDX-License-Identifier: Apache-2.0
"""Hostile: sees a lock that somebody outside holds on a file shown to both."""

import fcntl
import sys

from attack import attempt

with open(sys.argv[1]) as file:
    attempt("flock", lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
