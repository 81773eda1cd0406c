# SPDX-License-Identifier: Apache-2.0
"""Files that outside people name: bounded, of the right kind, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import ConfigError
from supervisor.kernel.files import ResultFile, read_text


def test_text_is_read_from_regular_files_of_a_bounded_size(tmp_path: Path) -> None:
    """A FIFO does not hang, a device does not fill the memory, and each refusal names the file."""
    good, big, odd, fifo = (tmp_path / name for name in ("good", "big", "odd", "fifo"))
    good.write_text("gr\u00fcn")
    big.write_bytes(bytes(101))
    odd.write_bytes(b"ab\xffc")
    os.mkfifo(fifo)
    assert read_text(str(good), 100) == "gr\u00fcn"
    for path, words in (
        (big, "larger than 100 bytes"),
        (odd, "not UTF-8 text at byte 2"),
        (fifo, "not a regular file"),
        (tmp_path, "not a regular file"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            read_text(str(path), 100)
        assert caught.value.source == str(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_text("/dev/zero", 100)
    with pytest.raises(ConfigError, match="No such file"):
        read_text(str(tmp_path / "gone"), 100)


def test_a_result_appears_whole_at_its_end_only(tmp_path: Path) -> None:
    """Before the write nothing is there, so that nothing can stay; after it only the result."""
    result = ResultFile(str(tmp_path / "result"))
    assert list(tmp_path.iterdir()) == []
    result.write("whole\n")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "whole\n"


def test_a_result_that_is_never_written_leaves_nothing(tmp_path: Path) -> None:
    """Closed twice, too."""
    (tmp_path / "result").write_text("old")
    result = ResultFile(str(tmp_path / "result"))
    result.close()
    result.close()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_two_results_at_one_place_do_not_mix(tmp_path: Path) -> None:
    """The later one wins, whole."""
    first, second = ResultFile(str(tmp_path / "result")), ResultFile(str(tmp_path / "result"))
    second.write("second, and longer")
    first.write("first")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


def test_a_device_takes_a_result_directly() -> None:
    """And says when it does not."""
    ResultFile("/dev/null").write("x")
    with pytest.raises(ConfigError, match="/dev/full: result: No space left on device"):
        ResultFile("/dev/full").write("x")
