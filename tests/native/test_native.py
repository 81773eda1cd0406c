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

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
CLAIMS = re.findall(r"^    X\((\w+)\)", (HERE / "claims.c").read_text(), re.MULTILINE)
THREADED = [name for name in CLAIMS if "thread" in name or "engine" in name or "output" in name]
SOURCES = (
    "plan.c",
    "spawn.c",
    "template.c",
    "engine.c",
    "denials.c",
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
CHILD_HALF = ("child.c", "sandbox.c", "mounts.c", "landlock.c", "seccomp.c", "handover.c")
FLAGS = "-std=gnu11 -g -O1 -pthread -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Werror -fno-omit-frame-pointer".split()
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def build(folder: Path, *sanitizers: str) -> Path:
    """claims.c with the native sources, all warnings errors."""
    compiler = os.environ.get("CC", "cc")
    made = folder / "claims"
    for command in (
        *([compiler, *FLAGS, "-I", str(NATIVE), "-c", str(NATIVE / name), "-o", str(folder / f"{name}.o")] for name in CHILD_HALF),
        [
            compiler,
            *FLAGS,
            *sanitizers,
            "-I",
            str(NATIVE),
            str(HERE / "claims.c"),
            *[str(NATIVE / name) for name in SOURCES],
            *[str(folder / f"{name}.o") for name in CHILD_HALF],
            "-o",
            str(made),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return made


def assert_holds(program: Path, claim: str) -> None:
    done = subprocess.run([str(program), claim], capture_output=True, text=True, check=False, env={**os.environ, **OPTIONS}, timeout=55)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.fixture(scope="session")
def memory_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("memory"), "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def thread_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("thread"), "-fsanitize=thread")


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
