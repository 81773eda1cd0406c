# SPDX-License-Identifier: Apache-2.0
"""CPython's own tests of executors, where its test package is installed, run on ours.

Left out, and why:
- ``test_no_stale_references``: its callable is a bound method of the test case, which only threads can call;
- ``test_map_timeout`` and the like run as they are; those that reach into ``_processes`` or ``_work_queue`` are tests of one executor's
  inside and live in other classes of the package.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import unittest
from typing import Any

import pytest

from supervisor import Pool

NOT_OURS = {"test_no_stale_references"}


def find() -> Any:
    """CPython's class of claims about any executor: a module of its own from 3.12 on."""
    for name in ("test.test_concurrent_futures.executor", "test.test_concurrent_futures"):
        try:
            return importlib.import_module(name).ExecutorTest
        except (ImportError, AttributeError, unittest.SkipTest):
            continue
    return None


CLAIMS = find()
NAMES = [name for name in dir(CLAIMS) if name.startswith("test_") and name not in NOT_OURS]


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


@pytest.mark.skipif(CLAIMS is None, reason="requires CPython's own test package (test.test_concurrent_futures), which few Pythons bring")
@pytest.mark.parametrize("name", NAMES or ["none"])
def test_a_claim_of_cpython(name: str) -> None:
    thread = LoopThread()

    class Case(CLAIMS, unittest.TestCase):  # type: ignore[misc]
        worker_count = 5

        def setUp(self) -> None:
            self.executor = thread.executor

        def assertReportsCause(self, *_: object) -> None:  # noqa: N802
            raise AssertionError

    try:
        result = unittest.TestResult()
        Case(name).run(result)
        problems = [text for _, text in [*result.failures, *result.errors]]
        assert not problems, problems[0]
    finally:
        thread.close()
