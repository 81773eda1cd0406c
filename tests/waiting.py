# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to be so: pipes that tell, processes that end, and one bounded poll."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 20.0
#: An emulated machine is some ten times slower: limits that a test must stay below are stretched by this.
SLOW = 8.0 if os.environ.get("RINGFENCE_VM") == "1" else 1.0


def eventually(condition: Callable[[], T], timeout: float = PATIENCE) -> T:
    """The first true answer of ``condition``, asked again and again; fails when there is none in time.

    For what the kernel has no event for; prefer a pipe or an exit.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout:g} s: {condition}")
        time.sleep(0.002)
    return answer


def is_alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_dead(pid: int, timeout: float = PATIENCE) -> None:
    """Until the process has ended, woken by its pidfd."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return  # its number is not free yet, and nobody has it any more
    try:
        if not select.select([fd], [], [], timeout)[0]:
            raise AssertionError(f"process {pid} is still alive after {timeout:g} s")
    finally:
        os.close(fd)


class Line:
    """A pipe through which a program says lines; ``end`` is its writing end, for the program to inherit."""

    def __init__(self) -> None:
        self._read, self.end = os.pipe2(os.O_CLOEXEC)
        self._held = b""

    def release(self) -> None:
        """Only the program holds the writing end from now on."""
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    def read(self, timeout: float = PATIENCE) -> str:
        """The next line without its end, or an empty text when every writer is gone."""
        while b"\n" not in self._held:
            if not select.select([self._read], [], [], timeout)[0]:
                raise AssertionError(f"nothing was said within {timeout:g} s; so far {self._held!r}")
            more = os.read(self._read, 65536)
            if not more:
                break
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()

    def wait_closed(self, timeout: float = PATIENCE) -> None:
        """Until no process holds the writing end any more."""
        self.release()
        while self.read(timeout):
            pass

    def close(self) -> None:
        self.release()
        os.close(self._read)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
