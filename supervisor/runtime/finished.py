# SPDX-License-Identifier: Apache-2.0
"""Wait for what must not be left half-way: work on another thread, a task that closes something."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


async def finished(doing: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until it is done, whatever happens to us; the cancellation that came meanwhile, if one did."""
    cancelled = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as request:
            cancelled = request
    return cancelled
