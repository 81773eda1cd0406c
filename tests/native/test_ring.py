# SPDX-License-Identifier: Apache-2.0
"""The ring without Python, under the sanitizers of test_native.py; ring_claims.c holds the claims."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from test_native import FLAGS, NATIVE, assert_holds

HERE = Path(__file__).parent
CLAIMS = re.findall(r"^    X\((\w+)\)", (HERE / "ring_claims.c").read_text(), re.MULTILINE)


def build(folder: Path, *sanitizers: str) -> Path:
    """ring_claims.c with the ring, all warnings errors."""
    made = folder / "ring_claims"
    sources = [HERE / "ring_claims.c", NATIVE / "ring.c", NATIVE / "ring_map.c"]
    command = [os.environ.get("CC", "cc"), *FLAGS, *sanitizers, "-I", str(NATIVE), *map(str, sources), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def memory_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ring-memory"), "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def thread_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ring-thread"), "-fsanitize=thread")


@pytest.mark.requires("sanitizers")
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_holds_without_a_memory_error_a_leak_or_undefined_behaviour(claim: str, memory_checked: Path) -> None:
    """AddressSanitizer with leak detection, UndefinedBehaviorSanitizer."""
    assert_holds(memory_checked, claim)


@pytest.mark.requires("thread_sanitizer")
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_holds_without_a_data_race(claim: str, thread_checked: Path) -> None:
    """ThreadSanitizer; threads stand for the processes. It is not shown the bytes that a broadcast may overwrite under a reader."""
    assert_holds(thread_checked, claim)
