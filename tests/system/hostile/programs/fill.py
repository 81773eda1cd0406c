# SPDX-License-Identifier: Apache-2.0
"""Hostile: writes into a folder until there is no room, at most 192 MiB."""

import sys

from attack import attempt


def fill(folder):
    with open(f"{folder}/filler", "wb", buffering=0) as file:
        for _ in range(192):
            file.write(bytes(1 << 20))


for folder in sys.argv[1:]:
    attempt(f"fill {folder}", lambda folder=folder: fill(folder))
