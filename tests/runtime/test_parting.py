# SPDX-License-Identifier: Apache-2.0
"""The outcome of a strict job is told when its last process is gone; what the kernel takes apart after that is waited for before
anything is given back, and before the outcome where something of the host's was mounted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import supervisor
from supervisor.kernel import native
from supervisor.kernel.native import EXITED, Engine, ffi
from supervisor.kernel.tree import HelperTree
from supervisor.model.sandbox import Bind, Overlay, Sandbox, is_self_contained
from supervisor.runtime.clock import HELPER_PATIENCE_NS, UNREAPED_PATIENCE_NS
from supervisor.runtime.execution import Execution
from supervisor.runtime.oneshot import Ground

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]
STRICT = Sandbox(level="strict")


class Drive:
    """One strict job, driven by hand: what tells the end of its helper can be held back."""

    def __init__(self, engine: Engine, execution: Execution) -> None:
        self.engine, self.execution = engine, execution
        self.held: list[Any] = []

    def turn(self) -> None:
        for event in self.engine.poll(10_000_000_000):
            if event.kind == EXITED:
                kept = ffi.new("struct sup_event *")
                kept[0] = event
                self.held.append(kept)
            else:
                self.execution.on_event(event)

    def until_the_helper_is_gone(self) -> None:
        while not self.held:
            self.turn()

    def stands(self) -> tuple[bool, bool]:
        """Whether the outcome is known, and whether the helper is known to be gone."""
        return self.execution.outcome is not None, self.execution.parted

    def tell(self) -> None:
        for event in self.held:
            self.execution.on_event(event)
        self.held.clear()


@contextlib.contextmanager
def driven(*argv: str, early: bool = True) -> Iterator[Drive]:
    with contextlib.closing(Ground()) as ground, contextlib.closing(Engine()) as engine:
        plan, host = ground.plan(spec := supervisor.JobSpec(argv=argv, sandbox=STRICT))
        execution = Execution(engine, spec, plan, host, ground.root)
        execution.tells_early = early
        try:
            execution.launch(None)
            yield Drive(engine, execution)
        finally:
            execution.release()


def test_the_outcome_does_not_wait_for_the_helper() -> None:
    with driven("/bin/sh", "-c", "exit 7") as drive:
        execution = drive.execution
        drive.until_the_helper_is_gone()
        assert drive.stands() == (True, False)
        assert execution.outcome is not None
        assert (execution.outcome.verdict, execution.outcome.exit.code) == ("nonzero_exit", 7)
        assert execution.outcome.usage.cpu_ns and execution.outcome.usage.wall_ns
        drive.tell()
        assert drive.stands() == (True, True)
        assert execution.deadline_ns is None


def test_it_does_for_a_driver_that_releases_at_once() -> None:
    with driven("/bin/true", early=False) as drive:
        drive.until_the_helper_is_gone()
        assert drive.stands() == (False, True)
        drive.tell()
        assert drive.stands() == (True, True)


def test_what_is_left_of_a_helper_that_never_ends_is_given_up_at_last() -> None:
    with driven("/bin/true") as drive:
        execution = drive.execution
        drive.until_the_helper_is_gone()
        outcome = execution.outcome
        assert outcome is not None and execution.deadline_ns is not None
        assert 0 < execution.deadline_ns - native.now_ns() <= HELPER_PATIENCE_NS
        execution.on_time(execution.deadline_ns)  # it is destroyed, and waited for once more
        assert drive.stands() == (True, False)
        assert execution.deadline_ns is not None
        execution.on_time(execution.deadline_ns + UNREAPED_PATIENCE_NS)
        assert drive.stands() == (True, True)
        assert execution.outcome is outcome


def test_what_is_of_the_host_is_waited_for(tmp_path: Path) -> None:
    """Who unmounts what a job was shown, or reads what it wrote, finds it free."""
    bind = Bind(source=str(tmp_path))
    assert is_self_contained(STRICT)
    assert not is_self_contained(Sandbox(level="strict", bind=(bind,)))
    assert not is_self_contained(Sandbox(level="strict", overlay=(Overlay(source=str(tmp_path)),)))
    assert not is_self_contained(Sandbox(level="basic", private_tmp=True))


async def test_a_job_that_is_over_is_not_among_the_jobs_but_its_supervisor_waits_for_all_of_it() -> None:
    async with supervisor.Supervisor() as sup:
        trees = []
        for _ in range(20):
            job = await sup.start(["/bin/true"], sandbox=STRICT)
            trees.append(job._execution.tree)
            await job.wait()
            assert sup.jobs == ()
    for tree in trees:
        assert isinstance(tree, HelperTree) and tree.fd == -1
        assert not os.path.exists(f"/proc/{tree.helper_pid}")
