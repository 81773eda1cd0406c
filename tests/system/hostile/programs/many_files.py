# SPDX-License-Identifier: Apache-2.0
"""Hostile: makes files until there are no more, deep folders, long names and modes that forbid everything."""

import os
import sys

from attack import attempt

os.chdir(sys.argv[1])
for _ in range(int(sys.argv[2])):
    os.mkdir("d" * 255)
    os.chdir("d" * 255)
os.chdir(sys.argv[1])


def exhaust():
    for number in range(1_000_000):
        os.close(os.open(f"{number}-" + "n" * 200, os.O_CREAT | os.O_WRONLY, 0))


attempt("files", exhaust)
for name in os.listdir("."):
    try:
        os.chmod(name, 0)
    except PermissionError:
        continue  # what the sandbox shows there belongs to others
