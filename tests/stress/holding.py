# SPDX-License-Identifier: Apache-2.0
"""Holding: what this process and its supervisors hold at one moment."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.own import children, descriptors

KIB = 1024


#: What a descriptor of a network namespace is: a supervisor of root's keeps some in stock (native/networks.c) and its own at hand.
NETWORK: Final = "net"
NETWORKS_MAX: Final = 16 + 1


class Holding(NamedTuple):
    """Everything that must be the same again when nothing runs; memory may only grow a little."""

    descriptors: tuple[str, ...]
    threads: int
    children: tuple[str, ...]
    cgroups: tuple[str, ...]
    shared_memory: tuple[str, ...]
    files: tuple[str, ...]
    memory_kib: int

    @classmethod
    def now(cls, scratch: Path) -> Holding:
        """Look at everything."""
        gc.collect()
        return cls(
            descriptors=tuple(
                sorted(what.partition(":[")[0] for what in descriptors().values())
            ),  # without what makes two of a kind different
            threads=len(os.listdir("/proc/self/task")),
            children=tuple(sorted(children())),
            cgroups=tuple(sorted(_cgroups())),
            shared_memory=tuple(sorted(name for name in os.listdir("/dev/shm") if "ringfence" in name)),
            files=tuple(sorted(os.listdir(scratch))),
            memory_kib=memory_kib(),
        )

    def more_than(self, before: Holding) -> str:
        """What is held now and was not before, in words; empty when nothing is."""
        found = []
        for name in ("descriptors", "children", "cgroups", "shared_memory", "files"):
            now, then = ([known for known in getattr(holding, name) if known != NETWORK] for holding in (self, before))
            more = len(now) > len(then)
            for known in then:
                if known in now:
                    now.remove(known)
            if now and more:
                found.append(f"{name}: {', '.join(now[:10])}")
        if (networks := self.descriptors.count(NETWORK)) > NETWORKS_MAX:
            found.append(f"{networks} network namespaces")
        if self.threads > before.threads:
            found.append(f"threads: {self.threads} instead of {before.threads}")
        return "; ".join(found)


def memory_kib() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // KIB


def descriptor_count() -> int:
    """Descriptors open now."""
    return len(os.listdir("/proc/self/fd"))


def _cgroups() -> Iterator[str]:
    """Directories of the cgroup trees of supervisors of this process, which names each by our process ID."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    mine = f"ringfence-{os.getpid()}-"
    for mount in mounts:
        for place, folders, _ in os.walk(mount):
            yield from (os.path.relpath(os.path.join(place, name), mount) for name in folders if mine in os.path.join(place, name))
