# SPDX-License-Identifier: Apache-2.0
"""output_max: stdout and stderr together, counted to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import python

import supervisor

pytestmark = pytest.mark.usefixtures("holder")
LIMIT = 10_000
WRITE = (
    "import os, sys\n"
    "for part in sys.argv[1:]:\n"
    "  fd, size = map(int, part.split(':'))\n"
    "  while size: size -= os.write(fd, b'xyz'[fd:fd + 1] * min(size, 4096))\n"
)
WAYS = {"stdout": ["1:{}"], "stderr": ["2:{}"], "both": ["1:4000", "2:{}"]}


def parts(way: str, total: int) -> list[str]:
    return [part.format(total - 4000 if way == "both" else total) for part in WAYS[way]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
def test_output_up_to_the_limit_arrives_whole(way: str, size: int) -> None:
    """The last byte allowed is no overdraft."""
    outcome = supervisor.run(python(WRITE, *parts(way, size)), limits={"output_max": LIMIT}, capture_output=True)
    assert (outcome.verdict, outcome.truncated, outcome.limits_hit) == ("ok", False, ())
    assert len(outcome.stdout) + len(outcome.stderr) == size
    assert (outcome.usage.stdout_bytes, outcome.usage.stderr_bytes) == (len(outcome.stdout), len(outcome.stderr))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("over", [1, 3_000_000])
def test_the_first_byte_over_the_limit_is_the_verdict_and_is_not_kept(way: str, over: int) -> None:
    """Exactly the limit is kept of both streams together."""
    outcome = supervisor.run(python(WRITE, *parts(way, LIMIT + over)), limits={"output_max": LIMIT}, capture_output=True)
    assert (outcome.verdict, outcome.truncated, outcome.limits_hit) == ("output_limit", True, ("output_max",)), outcome
    assert len(outcome.stdout) + len(outcome.stderr) == LIMIT
    counted = (outcome.usage.stdout_bytes or 0) + (outcome.usage.stderr_bytes or 0)
    assert LIMIT < counted <= LIMIT + over


def test_a_program_that_would_print_for_ever_is_ended() -> None:
    """``yes`` into a megabyte."""
    outcome = supervisor.run(["yes"], limits={"output_max": "1M", "wall_time_max": 20}, capture_output=True)
    assert (outcome.verdict, outcome.killed, len(outcome.stdout)) == ("output_limit", True, 1 << 20)
    assert outcome.stdout == b"y\n" * (1 << 19)


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_output_into_a_file_is_counted_on_its_way(tmp_path: Path, size: int) -> None:
    """What exceeds the limit never reaches the file."""
    with (tmp_path / "out").open("wb") as file:
        outcome = supervisor.run(python(WRITE, f"1:{size}"), limits={"output_max": LIMIT}, stdout=file)
    assert (tmp_path / "out").stat().st_size == min(size, LIMIT)
    assert outcome.verdict == ("ok" if size <= LIMIT else "output_limit")
    assert outcome.usage.stdout_bytes == size


def test_both_streams_into_one_file_keep_their_order_under_a_limit(tmp_path: Path) -> None:
    """Alternating bytes of stdout and stderr arrive as written."""
    code = "import os\nfor n in range(200): os.write(1 + n % 2, b'%03d' % n)"
    with (tmp_path / "out").open("wb") as file:
        outcome = supervisor.run(python(code), limits={"output_max": LIMIT}, stdout=file, stderr=file)
    assert outcome.verdict == "ok"
    assert (tmp_path / "out").read_bytes() == b"".join(b"%03d" % n for n in range(200))


def test_stderr_merged_into_stdout_counts_once() -> None:
    """STDOUT as stderr: one stream, one count."""
    outcome = supervisor.run(
        python(WRITE, "1:5000", "2:5000"), limits={"output_max": LIMIT}, stdout=supervisor.PIPE, stderr=supervisor.STDOUT
    )
    assert (outcome.verdict, len(outcome.stdout), outcome.stderr) == ("ok", LIMIT, None)


def test_output_that_nobody_reads_is_not_counted() -> None:
    """Without a limit and without capture the streams do not pass through us: unknown, not 0."""
    outcome = supervisor.run(["true"], stdout=supervisor.DEVNULL)
    assert outcome.usage.stdout_bytes is None and "stdout_bytes" not in outcome.sources


def test_a_job_that_had_exited_before_its_output_was_counted_was_not_killed() -> None:
    """Whether what it left in the pipe is read before its end is heard of or after it."""
    for _ in range(10):
        outcome = supervisor.run(
            python("import os; os.write(1, bytes(60_000)); os._exit(0)"), limits={"output_max": 1000}, capture_output=True
        )
        assert outcome.verdict == "output_limit"
        assert outcome.killed is (outcome.exit.code is None)
