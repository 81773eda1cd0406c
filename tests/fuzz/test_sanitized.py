# SPDX-License-Identifier: Apache-2.0
"""A short campaign on each native reader of what others write finds nothing, and the fuzzer finds a check that is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzz import sanitized
from tests.fuzz.plans import NATIVE
from tests.fuzz.sanitized import PROGRAMS

pytestmark = pytest.mark.requires("sanitizers")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_short_campaign_finds_nothing(name: str, tmp_path: Path) -> None:
    done = sanitized.run(sanitized.build(name, tmp_path), seconds=2, seed=1)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "file", "check", "instead", "words"),
    [
        ("rings", "ring.h", "size <= sup_ring_message_max(ring) && record_size(size) <= end - index", "1", "ends[i]|AddressSanitizer"),
        ("rings", "ring.c", "lost = lost > 0 ? lost : 0;", "", "*lost >= 0"),
        ("rings", "ring.c", "claimed - ring->seen > ring->index - ring->seen", "0", "n == -EBADMSG|r == -EBADMSG"),
        ("rings", "ring_map.c", "(uint64_t)found.st_size >= size", "size > 0", "AddressSanitizer"),
        ("packets", "packets.c", "ret->cut = (message.msg_flags", "ret->cut = 0 && (message.msg_flags", "memcmp(room, sent, total) == 0"),
        ("packets", "packets.c", "size - ret->plain >= packet_max", "ret->plain < size", "AddressSanitizer"),
        ("denials", "denials.c", "|| call->nr >= NUMBERS_MAX", "", "Sanitizer|runtime error"),
        ("denials", "denials.c", "memset(&request, 0, sizeof request);", "", "notice)[i] == 0"),
    ],
)
def test_a_check_that_is_left_out_is_found(name: str, file: str, check: str, instead: str, words: str, tmp_path: Path) -> None:
    native = tmp_path / "native"
    native.mkdir()
    for path in NATIVE.glob("*.[ch]"):
        shutil.copy(path, native)
    text = (native / file).read_text()
    assert check in text
    pragma = '#pragma GCC diagnostic ignored "-Wunused-parameter"\n#pragma GCC diagnostic ignored "-Wunused-variable"\n'
    (native / file).write_text(pragma + text.replace(check, instead))
    done = sanitized.run(sanitized.build(name, tmp_path, native), seconds=20, seed=1)
    assert done.returncode != 0
    assert any(word in done.stderr for word in words.split("|")), done.stderr
