# SPDX-License-Identifier: Apache-2.0
"""Asking a service whether it is well: one connection, one request, one command."""

from __future__ import annotations

import asyncio

from supervisor.errors import ClosedError, SupervisorError
from supervisor.model.check import ExecCheck, HttpCheck, TcpCheck
from supervisor.model.spec import DEVNULL
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.check import Asking
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.supervisor import Supervisor

STATUS_LINE_MAX_BYTES = 1024


async def ask(supervisor: Supervisor, check: Asking, job_spec: JobSpec, seconds: float) -> bool:
    """Whether the check succeeds within the time; any failure is an answer. Cancelled, it leaves no connection and no process.

    Raises :class:`ClosedError` when the supervisor is closed.
    """
    try:
        async with asyncio.timeout(seconds):
            if isinstance(check, TcpCheck):
                return await _connects(check.host, check.port)
            if isinstance(check, HttpCheck):
                return await _answers(check)
            return await _succeeds(supervisor, check, job_spec)
    except ClosedError:
        raise
    except (OSError, TimeoutError, SupervisorError, ValueError):  # ValueError: asyncio's for a line that never ends
        return False


async def _connects(host: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def _answers(check: HttpCheck) -> bool:
    host, port, path = check.parts()
    reader, writer = await asyncio.open_connection(host, port, limit=STATUS_LINE_MAX_BYTES)
    try:
        shown = f"[{host}]" if ":" in host else host
        request = f"GET {path} HTTP/1.1\r\nHost: {shown}:{port}\r\nUser-Agent: ringfence\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        words = (await reader.readline()).split(maxsplit=2)
    finally:
        writer.transport.abort()
    return len(words) >= 2 and words[0].startswith(b"HTTP/1.") and len(words[1]) == 3 and words[1].startswith(b"2") and words[1].isdigit()


async def _succeeds(supervisor: Supervisor, check: ExecCheck, job_spec: JobSpec) -> bool:
    spec = replace(job_spec, argv=tuple(check.argv), stdin=DEVNULL, input=None, stdout=DEVNULL, stderr=DEVNULL)
    return (await supervisor.run(spec)).ok
