# SPDX-License-Identifier: Apache-2.0
"""Work on another thread that nothing may break off half-way."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


async def finished(call: Callable[[], object]) -> tuple[asyncio.Future[object], asyncio.CancelledError | None]:
    """Call on a thread of the loop's and wait for its end, whatever happens to us.

    Returns what came of it, and the cancellation that came meanwhile.
    """
    acting = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, call))
    cancelled = None
    while not acting.done():
        try:
            await asyncio.wait([acting])
        except asyncio.CancelledError as request:
            cancelled = request
    return acting, cancelled
