# SPDX-License-Identifier: Apache-2.0
"""CPython's own claims about executors, where its test package is installed, held against ours.

Not ours: ``test_max_workers_negative`` (the constructor is the pool's) and what looks into one executor's inside, which
stands in other classes of the package. Shutdown at the interpreter's exit does not apply: the pool is a scope.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import unittest
from typing import Any

import pytest

from supervisor import Pool

NOT_OURS = {"test_max_workers_negative"}
#: Modules and classes, of Python 3.12 and newer, and of those before.
PLACES = (
    ("executor", "ExecutorTest"),
    ("test_wait", "WaitTests"),
    ("test_as_completed", "AsCompletedTests"),
)


def find() -> dict[str, Any]:
    """The claims by class and name."""
    found: dict[str, Any] = {}
    for module, name in PLACES:
        for place in (f"test.test_concurrent_futures.{module}", "test.test_concurrent_futures"):
            try:
                claims = getattr(importlib.import_module(place), name)
            except (ImportError, AttributeError, unittest.SkipTest):
                continue
            found |= {f"{name}.{claim}": claims for claim in dir(claims) if claim.startswith("test_") and claim not in NOT_OURS}
            break
    return found


CLAIMS = find()


class LoopThread:
    """A pool on an event loop of another thread, as a program without asyncio would keep it."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self._ready.wait()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with Pool(5) as pool:
            self.executor = pool.executor()
            self._ready.set()
            await self._end.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.mark.skipif(not CLAIMS, reason="requires CPython's own test package (test.test_concurrent_futures), which few Pythons bring")
@pytest.mark.parametrize("claim", CLAIMS or ["none"])
def test_a_claim_of_cpython(claim: str) -> None:
    thread = LoopThread()

    class Case(CLAIMS[claim], unittest.TestCase):  # type: ignore[misc, valid-type]
        worker_count = 5

        def setUp(self) -> None:
            self.executor = thread.executor

    try:
        result = unittest.TestResult()
        Case(claim.partition(".")[2]).run(result)
        problems = [text for _, text in [*result.failures, *result.errors]]
        assert not problems, problems[0]
    finally:
        thread.close()
