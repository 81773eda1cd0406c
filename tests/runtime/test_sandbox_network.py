# SPDX-License-Identifier: Apache-2.0
"""A supervisor of root's lends the empty network namespace of a strict job to a later one: never to two, and never with anything in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest
from sandboxes import LIMITS, REAL_PYTHON, strict

import supervisor
from supervisor import Supervisor

pytestmark = pytest.mark.requires("mount")

#: Tells the namespace it is in, gives a listening socket of it away through standard input, and ends.
GIVE_AWAY = """
import os, socket
print(os.stat("/proc/self/ns/net").st_ino, flush=True)
left = socket.socket(socket.AF_UNIX)
left.bind(b"\\0left behind")
left.listen()
socket.send_fds(socket.socket(fileno=0), [b"x"], [left.fileno()])
"""
TELL = 'import os; print(os.stat("/proc/self/ns/net").st_ino)'
TELL_AND_WAIT = TELL[:-1] + ", flush=True); os.read(0, 1)"


async def network_of(sup: Supervisor, code: str = TELL, network: str = "none", stdin: int = -3) -> int:
    """The inode of the network namespace of a job that prints it."""
    command = [REAL_PYTHON, "-I", "-S", "-c", code]
    outcome = await sup.run(command, sandbox=strict(network=network), limits=LIMITS, stdin=stdin, capture_output=True, text=True)
    assert outcome.verdict == "ok", (outcome.summary(), outcome.stderr)
    return int(str(outcome.stdout))


@pytest.mark.requires("root")
async def test_the_next_job_gets_the_namespace_of_one_that_is_gone() -> None:
    async with Supervisor() as sup:
        first = await network_of(sup)
        await sup.until_idle()  # its helper too
        assert await network_of(sup) == first


async def test_jobs_that_run_at_once_have_one_each() -> None:
    async with Supervisor() as sup:
        held, ours = os.pipe()
        waiting = [asyncio.create_task(network_of(sup, TELL_AND_WAIT, stdin=held)) for _ in range(4)]
        os.close(ours)
        found = await asyncio.gather(*waiting)
        os.close(held)
        assert len(set(found)) == len(found) == 4


async def test_a_namespace_with_a_socket_left_in_it_is_not_lent_again() -> None:
    async with Supervisor() as sup:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            first = await network_of(sup, GIVE_AWAY, stdin=theirs.fileno())
            _, (left,), _, _ = socket.recv_fds(ours, 1, 1)
            second = await network_of(sup)
            os.close(left)
        assert second != first


@pytest.mark.requires("root")
async def test_a_loopback_is_never_somebody_elses() -> None:
    """The stock keeps an empty one open meanwhile, so its inode number is nobody else's."""
    async with Supervisor() as sup:
        for _ in range(3):
            in_stock = await network_of(sup)
            assert await network_of(sup, network="loopback") != in_stock


async def test_the_supervisor_stays_in_its_own_network() -> None:
    async with Supervisor() as sup:
        own = os.stat("/proc/self/ns/net").st_ino
        assert own not in [await network_of(sup) for _ in range(4)]
        assert {os.stat(thread / "ns" / "net").st_ino for thread in Path("/proc/self/task").iterdir()} == {own}
        assert await network_of(sup, network="host") == own


async def test_a_job_that_cannot_be_started_takes_no_namespace_with_it() -> None:
    def namespaces() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [link for link in found if link.startswith("net:")]

    async with Supervisor() as sup:
        before = len(namespaces())
        for _ in range(5):
            outcome = await sup.run(["/no/such/program"], sandbox="strict", limits=LIMITS)
            assert outcome.verdict == supervisor.Verdict.START_FAILED
        assert len(namespaces()) <= before + 2  # the supervisor's own and the one in stock
