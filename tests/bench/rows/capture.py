# SPDX-License-Identifier: Apache-2.0
"""The whole output of one child: read in Python, and captured to a file in memory (tmpfs)."""

from __future__ import annotations

import os
import tempfile

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer
from tests.bench.rows.python_peers import installed

KEYS = {"rate": Better.HIGHER, "cpu": Better.LOWER, "memory": Better.LOWER}
BYTES = 2 << 30
#: Files in memory, so that a disk does not decide.
PLACE = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
READ = (Budget(True, "rate", 3, "asyncio"), Budget(True, "rate", 1, "trio"), Budget(False, "rate", 0.9, "C read"))
FILE = (Budget(True, "rate", 0.9, "C splice"), Budget(True, "memory", 1024), Budget(False, "rate", 0.98, "C splice"))


def read_sections(setting: Setting) -> list[Section]:
    """One table: a consumer in Python."""
    size = setting.count(BYTES)
    section = Section("output read by its consumer", KEYS, READ)
    section.add("C read", lambda: (c_program("capture"), "read", "-", c_program("flood"), size), Role.LIMIT)
    section.add("ours", lambda: peer("ours_capture", "readinto", "-", c_program("flood"), size), Role.OURS)
    section.add("ours, read()", lambda: peer("ours_capture", "read", "-", c_program("flood"), size), Role.OURS)
    for tool in ("asyncio", "uvloop", "trio"):

        def make(tool: str = tool) -> tuple[str, ...]:
            installed(tool)
            return peer("python_capture", tool, c_program("flood"), size)

        section.add(tool, make)
    section.add("Popen", lambda: peer("python_capture", "popen", c_program("flood"), size))
    return [section]


def file_sections(setting: Setting) -> list[Section]:
    """One table: no consumer, a file."""
    size = setting.count(BYTES // 2)
    path = os.path.join(PLACE, f"ringfence-bench-capture-{os.getpid()}")
    section = Section("output captured to a file", KEYS, FILE)
    section.add("C splice", lambda: (c_program("capture"), "splice", path, c_program("flood"), size), Role.LIMIT)
    section.add("C, the child writes it", lambda: (c_program("capture"), "child", path, c_program("flood"), size))
    section.add("ours", lambda: peer("ours_capture", "file", path, c_program("flood"), size), Role.OURS)
    section.add("ours, rotated at 64 MiB", lambda: peer("ours_capture", "rotated", path, c_program("flood"), size), Role.OURS)
    return [section]
