# SPDX-License-Identifier: Apache-2.0
"""The rows by name, in the order of BUDGETS.md. Each makes its sections when it is about to run."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.model import Section, Setting
from tests.bench.rows import (
    capture,
    cold,
    exit_latency,
    many,
    messages,
    pool,
    restart,
    ring,
    sandbox,
    services,
    shared_memory,
    soak,
    spawn,
    spawn_cgroup,
    spawn_pipes,
    syscalls,
)

ROWS: dict[str, Callable[[Setting], list[Section]]] = {
    "spawn": spawn.sections,
    "spawn-cgroup": spawn_cgroup.sections,
    "spawn-pipes": spawn_pipes.sections,
    "exit-latency": exit_latency.sections,
    "many": many.sections,
    "sandbox": sandbox.sections,
    "capture": capture.read_sections,
    "capture-file": capture.file_sections,
    "cold": cold.sections,
    "ring": ring.sections,
    "shared-memory": shared_memory.sections,
    "restart": restart.sections,
    "services": services.sections,
    "messages": messages.sections,
    "pool": pool.sections,
    "soak": soak.sections,
    "syscalls": syscalls.sections,
}
