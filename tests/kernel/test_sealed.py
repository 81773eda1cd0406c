# SPDX-License-Identifier: Apache-2.0
"""Sealed memory: nobody can change it, and what is not sealed is not taken."""

from __future__ import annotations

import mmap
import os
import tempfile

import pytest

from supervisor import ConfigError, Sealed
from supervisor.kernel import memfd
from supervisor.kernel.sealed import ALL_SEALS


def test_a_copy_goes_in_and_views_come_out() -> None:
    body = os.urandom(300_000)
    with Sealed(body) as sealed:
        assert len(sealed) == len(body)
        view = sealed.view()
        assert view.readonly
    assert view == body, "a view outlives the descriptor"


def test_nobody_can_write_shrink_or_grow_it() -> None:
    """Each is refused by the kernel, for the owner too."""
    with Sealed(b"fixed") as sealed:
        with pytest.raises(PermissionError):
            os.pwrite(sealed.fileno(), b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(sealed.fileno(), 1)
        with pytest.raises(PermissionError):
            os.ftruncate(sealed.fileno(), 100)
        with pytest.raises(PermissionError):
            mmap.mmap(sealed.fileno(), 5, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_nothing_can_be_sealed_too() -> None:
    with Sealed(b"") as sealed:
        assert bytes(sealed.view()) == b""


@pytest.mark.parametrize(
    "kind",
    [
        *("unsealed", "half sealed", "other size", "too large", "a file", "a pipe", "write-only"),
        pytest.param("huge pages", marks=pytest.mark.requires("hugetlbfs")),
    ],
)
def test_what_could_change_under_a_reader_or_cannot_be_read_is_not_taken(kind: str) -> None:
    """And its descriptor is closed."""
    size = 0 if kind == "huge pages" else 10
    if kind == "a file":
        fd, path = tempfile.mkstemp()
        os.unlink(path)
        os.write(fd, bytes(size))
    elif kind == "a pipe":
        fd, other = os.pipe()
        os.close(other)
    else:
        fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | (os.MFD_HUGETLB if kind == "huge pages" else 0))
        os.ftruncate(fd, size)
        if kind == "write-only":
            readable, fd = fd, os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
            os.close(readable)
        if kind != "unsealed":
            memfd.add_seals(fd, memfd.SEAL_SHRINK if kind == "half sealed" else ALL_SEALS)
    with pytest.raises(ConfigError):
        Sealed.adopt(fd, size + (kind == "other size"), 5 if kind == "too large" else 100)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_pages_that_the_sender_left_out_are_not_made_by_who_reads() -> None:
    """They would be charged to the reader and stay while the sender keeps its descriptor, however many it sends."""
    size = 3_000_000
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"end", size - 3)
        memfd.add_seals(fd, ALL_SEALS)
        before = os.fstat(fd).st_blocks
        with Sealed.adopt(os.dup(fd), size, size) as sealed:
            view = sealed.view()
            assert view == bytes(size - 3) + b"end"
            assert view.readonly
        assert os.fstat(fd).st_blocks == before
    finally:
        os.close(fd)


def test_memory_that_is_all_there_is_not_copied() -> None:
    with Sealed(bytes(300_000)) as ours, Sealed.adopt(os.dup(ours.fileno()), 300_000, 300_000) as theirs:
        assert isinstance(theirs.view().obj, mmap.mmap)
