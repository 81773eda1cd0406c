# SPDX-License-Identifier: Apache-2.0
"""Boxes in which hostile programs worked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts import NOBODY

from supervisor.kernel.beneath import each_below
from supervisor.kernel.box import Box

DEEPER_THAN_ANY_STACK = 3000


@pytest.fixture
def ordinary() -> Iterator[None]:
    """We are an ordinary user, also where tests are run by root."""
    before = os.geteuid()
    os.seteuid(before or NOBODY)
    yield
    os.seteuid(before)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(str(tmp_path), 0, wait=False, owner=os.getuid())
    made.create((os.getuid(), os.getgid()), cg=False)
    yield made
    made.remove()
    made.close()


def dig(path: str, depth: int) -> None:
    """Directories in directories, with a pipe in the last."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkfifo("pipe", dir_fd=fd)
    os.close(fd)


def below(path: str) -> list[os.stat_result]:
    top = os.open(path, os.O_RDONLY)
    try:
        return [status for _, _, status in each_below(top)]
    finally:
        os.close(top)


def test_a_tree_deeper_than_the_stack_is_handed_over_and_taken_away(box: Box) -> None:
    dig(box.inside, DEEPER_THAN_ANY_STACK)
    owner = (NOBODY, NOBODY) if os.geteuid() == 0 else None
    box.hand_over(owner, keep_special=False)
    left = below(box.inside)
    assert len(left) == DEEPER_THAN_ANY_STACK, "the pipe is gone"
    assert {status.st_uid for status in left} == {NOBODY if owner else os.getuid()}
    box.remove()
    assert not os.path.lexists(box.path)


@pytest.mark.usefixtures("ordinary")
def test_a_box_is_handed_over_and_taken_away_whatever_modes_the_program_left() -> None:
    with tempfile.TemporaryDirectory() as root:
        box = Box(root, 0, wait=False, owner=os.geteuid())
        box.create((os.geteuid(), os.getegid()), cg=False)
        outer = Path(box.inside, "outer")
        for name, mode in (("listed", 0o400), ("closed", 0), ("read-only", 0o500)):
            (outer / name).mkdir(parents=True)
            os.mkfifo(outer / name / "pipe")
            (outer / name).chmod(mode)
        Path(box.inside).chmod(0o400)
        box.hand_over(None, keep_special=False)
        assert os.listdir(outer / "read-only") == []
        box.remove()
        assert not os.path.lexists(box.path)
        box.close()


def test_a_directory_that_is_moved_away_does_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    inner, elsewhere = tmp_path / "top" / "a" / "b", tmp_path / "elsewhere"
    inner.mkdir(parents=True)
    (elsewhere / "secret").mkdir(parents=True)
    (inner / "file").touch()
    top, seen = os.open(tmp_path / "top", os.O_RDONLY), []
    with pytest.raises(OSError, match="moved"):
        for _, name, _ in each_below(top):
            seen.append(name)
            if name == "file":
                inner.rename(elsewhere / "b")
    os.close(top)
    assert seen == ["a", "b", "file"]
