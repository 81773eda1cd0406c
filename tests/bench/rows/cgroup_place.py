# SPDX-License-Identifier: Apache-2.0
"""A cgroup v2 directory in which a contender may make cgroups."""

from __future__ import annotations

import atexit
import os
from contextlib import suppress

from tests.bench.model import NotHere


def cgroup_place() -> str:
    """A fresh directory below our own cgroup, removed when the benchmark ends. Raises :class:`NotHere`."""
    place = f"{_mount()}{_own().rstrip('/')}/bench-{os.getpid()}"
    try:
        os.mkdir(place)
    except FileExistsError:
        return place
    except OSError as error:
        raise NotHere(f"{place}: {error.strerror}") from None
    atexit.register(_remove, place)
    return place


def _remove(place: str) -> None:
    with suppress(OSError):
        os.rmdir(place)


def _mount() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if right.startswith("cgroup2 "):
                return left.split()[4]
    raise NotHere("cgroup v2 is not mounted")


def _own() -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].strip()
    raise NotHere("this process is in no cgroup v2 group")
