# SPDX-License-Identifier: Apache-2.0
"""A channel that outlives the processes at its other end: communication is rebuilt with each restart."""

from __future__ import annotations

import functools
import os
import signal

import pytest
from peers import peer_program
from services import pid_of, replaced

from supervisor import Channel, Service, ServiceSpec, Supervisor

pytestmark = pytest.mark.usefixtures("holder")
ANSWERING = "import os, supervisor\npeer = supervisor.connect()\nfor message in peer:\n    peer.reply(message, b'%d ' % os.getpid() + bytes(message.body))"


async def test_a_channel_is_rebuilt_with_every_restart_of_its_service() -> None:
    """Five kills; each time the request after the restart is answered by the new process, over the same channel."""
    async with Supervisor() as sup, Channel("web") as channel:
        spec = ServiceSpec(name="web", exec_start=peer_program(ANSWERING), restart="always", restart_sec=0, start_limit_burst=0)
        async with Service(sup, spec, launch=functools.partial(channel.start, sup)) as service:
            for _ in range(5):
                pid = pid_of(service)
                answer = await channel.request(b"hello", timeout=10)
                assert bytes(answer.body) == b"%d hello" % pid
                os.kill(pid, signal.SIGKILL)
                await replaced(service, pid)
            assert channel.generation == 6
