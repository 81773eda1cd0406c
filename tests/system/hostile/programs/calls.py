# SPDX-License-Identifier: Apache-2.0
"""Hostile: makes the system calls of its arguments, NAME:NUMBER:ARGUMENT..."""

import sys

from attack import attempt, system

for word in sys.argv[1:]:
    name, *numbers = word.split(":")
    attempt(name, lambda numbers=numbers: system(*map(int, numbers)))
