# SPDX-License-Identifier: Apache-2.0
"""What this process has now, for claims that nothing is left of it later."""

from __future__ import annotations

import os


def children() -> list[str]:
    """Child processes of this one, dead or alive: process ID, name and state."""
    found: list[str] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                pids = file.read().split()
        except FileNotFoundError:
            continue
        for pid in pids:
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    found.append(file.read()[:60])
            except OSError:
                found.append(pid)
    return found


def descriptors() -> dict[str, str]:
    """Open descriptors by number, and what they are."""
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed
    return found
