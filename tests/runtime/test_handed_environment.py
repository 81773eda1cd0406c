# SPDX-License-Identifier: Apache-2.0
"""A channel or shared memory hands a sandboxed job its own variable and none of the supervisor's."""

from __future__ import annotations

import pytest
from sandboxes import LIMITS

import supervisor
from supervisor import PIPE, Channel, SharedMemory, Supervisor

ENV = ["env"]


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SUPERVISOR_SECRET", "x")
    return "SUPERVISOR_SECRET"


@pytest.mark.parametrize("level", ["basic", "strict"])
async def test_a_channel_brings_no_secret_into_a_sandbox(level: str, secret: str) -> None:
    async with Supervisor() as sup, Channel() as channel:
        job = await channel.start(sup, ENV, sandbox=level, limits=LIMITS, stdout=PIPE)
        assert job.stdout is not None
        said = (await job.stdout.read()).decode()
    assert "RINGFENCE_CHANNEL=" in said and secret not in said


@pytest.mark.parametrize(("level", "goes_along"), [("none", True), ("basic", False), ("strict", False)])
def test_shared_memory_brings_no_secret_into_a_sandbox(level: str, goes_along: bool, secret: str) -> None:
    with SharedMemory.create("m", 4096) as memory:
        handed = SharedMemory.hand_over(memory.grant("r"))
        outcome = supervisor.run(
            ENV, sandbox=level, limits=LIMITS, pass_fds=handed.pass_fds, env=handed.env, capture_output=True, text=True
        )
    assert isinstance(outcome.stdout, str) and "RINGFENCE_SHARED_MEMORY=" in outcome.stdout
    assert (secret in outcome.stdout) is goes_along
