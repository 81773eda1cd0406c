# SPDX-License-Identifier: Apache-2.0
"""The native code without Python, under AddressSanitizer, LeakSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

claims.c holds the claims; each is a process of its own, so that one failure does not hide another.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from sanitized import MEMORY, NATIVE, THREADS, assert_holds, build, claims_of

CLAIMS = claims_of("claims.c")
THREADED = [name for name in CLAIMS if "thread" in name or "engine" in name or "output" in name]
SOURCES = (
    "plan.c",
    "spawn.c",
    "template.c",
    "engine.c",
    "denials.c",
    "networks.c",
    "spawner.c",
    "deadline.c",
    "output.c",
    "relay.c",
    "capture.c",
    "files.c",
    "packets.c",
    "pidfd.c",
)
#: They run on a borrowed stack in another process's memory, where no sanitizer's run-time library may be called.
CHILD_HALF = ("child.c", "processor.c", "sandbox.c", "mounts.c", "landlock.c", "seccomp.c", "handover.c")


@pytest.fixture(scope="session")
def memory_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("memory"), MEMORY, "claims.c", SOURCES, CHILD_HALF)


@pytest.fixture(scope="session")
def thread_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("thread"), THREADS, "claims.c", SOURCES, CHILD_HALF)


@pytest.mark.requires("sanitizers")
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_holds_without_a_memory_error_a_leak_or_undefined_behaviour(claim: str, memory_checked: Path) -> None:
    """AddressSanitizer with leak detection, UndefinedBehaviorSanitizer."""
    assert_holds(memory_checked, claim)


@pytest.mark.requires("thread_sanitizer")
@pytest.mark.parametrize("claim", THREADED)
def test_a_claim_holds_without_a_data_race(claim: str, thread_checked: Path) -> None:
    """ThreadSanitizer, for what uses threads or is used beside them."""
    assert_holds(thread_checked, claim)


@pytest.mark.requires("cc")
def test_the_init_helper_is_static_small_and_without_warnings(tmp_path: Path) -> None:
    """No interpreter, no library, below 32 KiB, and every warning an error."""
    text = (NATIVE / "backend.py").read_text()
    flags = re.search(r'HELPER_FLAGS = \(\s*"([^"]+)"\s*"([^"]+)"', text)
    names = re.search(r"HELPER_SOURCES = \(([^)]+)\)", text)
    assert flags and names
    made = tmp_path / "init"
    wanted = [flag for flag in (flags[1] + flags[2]).split() if flag != "-fcf-protection=none" or os.uname().machine == "x86_64"]
    sources = [str(NATIVE / name.strip(' "')) for name in names[1].split(",") if name.strip()]
    done = subprocess.run(
        [os.environ.get("CC", "cc"), *wanted, "-Werror", "-o", str(made), *sources], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    raw = made.read_bytes()
    assert raw.startswith(b"\x7fELF") and len(raw) < 32768
    assert b"ld-linux" not in raw and b"libc.so" not in raw
