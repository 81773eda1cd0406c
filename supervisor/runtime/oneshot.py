# SPDX-License-Identifier: Apache-2.0
"""One job, synchronously: the engine under ``supervisor.run`` and ``ringfence run``. No asyncio."""

from __future__ import annotations

import os

from supervisor.errors import InternalError
from supervisor.kernel import native
from supervisor.kernel.cgroup_root import CgroupRoot, NoCgroup, open_cgroup_root
from supervisor.kernel.native import OUTPUT_END, Engine
from supervisor.kernel.probe import block_devices, own_environment, read_host
from supervisor.model.host import Host
from supervisor.model.plan import SHARES, Environment, Frame, LaunchPlan, frame_key, make_environment, make_frame, make_plan
from supervisor.model.value import replace
from supervisor.runtime.execution import Execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from supervisor.kernel.held_signals import HeldSignals
    from supervisor.model.outcome import Outcome
    from supervisor.model.spec import JobSpec


FRAMES_KEPT: Final = 256
PLANS_KEPT: Final = 64
PLAN_KEPT_MAX_BYTES: Final = 65536


class Ground:
    """Owns what jobs stand on: the cgroup subtree that was found (or why not) and the host's facts."""

    def __init__(self, cgroup: str = "") -> None:
        """Raises :class:`ConfigError` when ``cgroup`` (or RINGFENCE_CGROUP) names a place that cannot be used."""
        self.root: CgroupRoot | None = None
        self._frames: dict[object, Frame] = {}
        self._plans: dict[
            int, tuple[JobSpec, Environment, LaunchPlan]
        ] = {}  # by id of the specification, kept so that the id stays its own
        self._own = make_environment({})
        reason = ""
        given = cgroup or os.environ.get("RINGFENCE_CGROUP", "")
        if given == "none":
            reason = "RINGFENCE_CGROUP=none forbids cgroups"
        else:
            try:
                self.root = open_cgroup_root(given)
            except (NoCgroup, OSError) as error:
                reason = str(error)
        try:
            self.host = read_host(self.root.facts if self.root else None, reason)
        except BaseException:
            self.close()
            raise

    def plan(self, spec: JobSpec) -> tuple[LaunchPlan, Host]:
        """The plan of one job on this ground, with the facts only this job needs."""
        if spec.sandbox is not None and self.host.sandbox is None:
            from supervisor.kernel.probe import read_sandbox_facts

            self.host = replace(self.host, sandbox=read_sandbox_facts())
        devices = block_devices(spec.limits)
        if devices:  # which device a path is on may change between two jobs: never kept
            host = replace(self.host, block_devices=devices)
            return make_plan(spec, host, self._environment()), host
        own = self._environment()
        kept = self._plans.get(id(spec))
        if kept is not None and kept[0] is spec and kept[1] is own:
            return kept[2], self.host
        plan = make_plan(spec, self.host, own, self._frame(spec))
        small = len(plan.env) + sum(map(len, plan.argv)) <= PLAN_KEPT_MAX_BYTES
        if small and not spec.input and not spec.preexec:  # nothing that is large or alive is kept
            if len(self._plans) >= PLANS_KEPT:
                self._plans.clear()
            self._plans[id(spec)] = (spec, own, plan)
        return plan, self.host

    def _frame(self, spec: JobSpec) -> Frame:
        key = frame_key(spec)
        frame = self._frames.get(key)
        if frame is None:
            if len(self._frames) >= FRAMES_KEPT:
                self._frames.clear()
            frame = self._frames[key] = make_frame(spec, self.host)
        return frame

    def grant(self, plan: LaunchPlan) -> None:
        """For the only job on this ground: its shares hold against the rest of the host, not just inside our directory."""
        if self.root is not None:
            for step in plan.cgroup_steps:
                if step.path in SHARES:
                    native.write_at(self.root.fd, step.path, step.text)

    def _environment(self) -> Environment:
        """Our own environment as it is now; packed again only when it has changed."""
        now = own_environment()
        if now != self._own.variables:
            self._own = make_environment(dict(now))
        return self._own

    def close(self) -> None:
        """Give the cgroup subtree back."""
        if self.root is not None:
            self.root.close()
            self.root = None


def drive(
    execution: Execution, held: HeldSignals | None, on_event: Callable[[Any], None] | None = None, *, ending: bool = False
) -> Outcome:
    """Run the engine until the job has its outcome and its relayed output has gone out.

    Events that are not the job's (signals, descriptors of the caller's) go to ``on_event``. Handlers of signals that
    ``held`` holds run here between two events, and what they raise is raised, unless the job is ``ending`` already.
    """
    engine = execution.engine
    while execution.outcome is None or execution.flushing:
        if held is not None and not ending:
            held.deliver()
        due = execution.deadline_ns
        timeout = -1 if due is None else max(0, due - native.now_ns())
        for event in engine.poll(timeout):
            if event.token != execution.token:
                if (held is None or not held.takes(event)) and on_event is not None:
                    on_event(event)
            elif event.kind != OUTPUT_END or execution.outcome is None:
                execution.on_event(event)
        execution.on_time(native.now_ns())
    execution.release()
    if execution.outcome is None:
        raise InternalError("the job ended without an outcome")
    return execution.outcome


def run_spec(spec: JobSpec, ground: Ground | None = None) -> Outcome:
    """Run one job to its end on the calling thread and return its outcome.

    Raises :class:`UnsupportedError` and :class:`ConfigError` before anything is started. When the
    caller is interrupted (KeyboardInterrupt, or what the handler of another signal raises), the job's tree is killed
    and waited for first.
    """
    from supervisor.kernel.held_signals import HeldSignals  # a command in the foreground watches its signals itself

    with HeldSignals() as held:
        own = ground is None
        ground = ground or Ground()
        engine: Engine | None = None
        try:
            engine = Engine()
            plan, host = ground.plan(spec)
            if own:
                ground.grant(plan)
            held.wake(engine)
            return run_execution(Execution(engine, spec, plan, host, ground.root), held)
        finally:
            if engine is not None:
                engine.close()
            if own:
                ground.close()


def run_execution(
    execution: Execution,
    held: HeldSignals | None,
    on_event: Callable[[Any], None] | None = None,
    on_launch: Callable[[], None] | None = None,
) -> Outcome:
    """Launch and drive one execution; whatever is raised meanwhile, its tree is ended and everything released first.

    ``held``: None for who watches signals itself, by descriptor, and has no Python hooks.
    """
    try:
        execution.launch(held)
        if on_launch is not None:
            on_launch()
        import supervisor.runtime.conclude  # noqa: F401 - what only the end needs is loaded while the job runs

        return drive(execution, held, on_event)
    except BaseException:
        if execution.tree is not None and execution.outcome is None and not execution.ending:
            execution.stop(0)
            drive(execution, held, ending=True)
        execution.release()
        raise
