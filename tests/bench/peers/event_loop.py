# SPDX-License-Identifier: Apache-2.0
"""Runs a coroutine on the loop and with the child watcher that a mode names: default, pidfd, threaded, uvloop."""

from __future__ import annotations

import asyncio
import importlib
import sys

from tests.bench.peers.measure import Main


def run_on(mode: str, main: Main) -> None:
    """Run to the end."""
    if mode == "uvloop":
        importlib.import_module("uvloop").run(main())
        return
    if sys.version_info < (3, 14) and mode in ("pidfd", "threaded"):
        watcher = asyncio.PidfdChildWatcher() if mode == "pidfd" else asyncio.ThreadedChildWatcher()
        asyncio.set_child_watcher(watcher)
    asyncio.run(main())
