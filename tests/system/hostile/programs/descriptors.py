# SPDX-License-Identifier: Apache-2.0
"""Hostile: opens descriptors until there are no more, and ends with a code of its own."""

import os

from attack import attempt


def exhaust():
    while True:
        os.open("/dev/null", os.O_RDONLY)


attempt("descriptors", exhaust)
raise SystemExit(7)
