# SPDX-License-Identifier: Apache-2.0
"""Pools of any program that answers each line with a line."""

from __future__ import annotations

import sys

import pytest

from supervisor import ConfigError, JobFailed, Pool, TaskTimeoutError

UPPER = [sys.executable, "-u", "-c", "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"]
MOODY = """
import os, sys, time
for line in sys.stdin:
    word = line.strip()
    if word == "die": os._exit(7)
    if word == "hang": time.sleep(600)
    if word == "chatter": print("one\\ntwo", flush=True)
    print(word + " by " + str(os.getpid()), flush=True)
"""


@pytest.mark.usefixtures("holder")
async def test_a_line_in_a_line_out() -> None:
    async with Pool(2, command=UPPER) as pool:
        assert await pool.run("hello") == "HELLO"
        assert await pool.map(["a", "b", "c"]) == ["A", "B", "C"]
        assert await pool.run("") == ""
        long = "x" * (3 << 20)
        assert await pool.run(long) == long.upper()


async def test_lines_may_be_bytes() -> None:
    async with Pool(1, command=["cat"], text=False) as pool:
        assert await pool.run(b"\xff\x00") == b"\xff\x00"


async def test_more_than_a_line_is_refused() -> None:
    async with Pool(1, command=["cat"]) as pool:
        for wrong in ("two\nlines", 7, None):
            with pytest.raises(ConfigError, match="one line"):
                await pool.run(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="one line and nothing else"):
            await pool.run("a", "b")


async def test_a_program_that_dies_hangs_or_says_too_much_fails_the_line_that_it_was_at() -> None:
    async with Pool(1, command=[sys.executable, "-c", MOODY]) as pool:
        first = (await pool.run("a")).split()[-1]
        with pytest.raises(JobFailed) as caught:
            await pool.run("die")
        assert caught.value.outcome.exit.code == 7
        assert (await pool.run("b")).split()[-1] != first
        with pytest.raises(TaskTimeoutError):
            await pool.under(timeout="200ms").run("hang")
        with pytest.raises(JobFailed):
            await pool.run("chatter")
        assert (await pool.run("c")).startswith("c by ")


async def test_a_single_text_is_the_name_of_a_program() -> None:
    async with Pool(1, command="cat") as pool:
        assert await pool.run("this") == "this"
