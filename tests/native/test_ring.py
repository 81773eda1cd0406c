# SPDX-License-Identifier: Apache-2.0
"""The ring without Python, under the sanitizers; ring_claims.c holds the claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import MEMORY, THREADS, assert_holds, build, claims_of

CLAIMS = claims_of("ring_claims.c")
SOURCES = ("ring.c", "ring_map.c")


@pytest.fixture(scope="session")
def memory_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ring-memory"), MEMORY, "ring_claims.c", SOURCES)


@pytest.fixture(scope="session")
def thread_checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ring-thread"), THREADS, "ring_claims.c", SOURCES)


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
