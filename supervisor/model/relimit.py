# SPDX-License-Identifier: Apache-2.0
"""Relimit: what has to be done so that a running job lives under changed limits. Pure.

The same :func:`~supervisor.model.enforce.enforce` that decided the launch decides again, and what
differs is the change: files to write, rlimits to set, an output cap, times for the clock.
"""

from __future__ import annotations

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.enforce import enforce
from supervisor.model.limits import Limits
from supervisor.model.plan import PROTECTIONS, WEIGHTS, CgroupStep
from supervisor.model.spec import passes_through_us
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from supervisor.model.host import Host
    from supervisor.model.limit_kinds import Rlimit
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.spec import JobSpec

CPUSET = ("allowed_cpus", "allowed_memory_nodes")


@value
class Relimit:
    """The specification and the plan as they shall be, and the way there; paths are below the job's cgroup."""

    spec: JobSpec
    plan: LaunchPlan
    changed: Mapping[str, Any]
    writes: tuple[CgroupStep, ...]
    rlimits: Mapping[int, Rlimit]
    output_max: int | float | None  # None: as it is

    @property
    def enforcement(self) -> dict[str, str]:
        """Who enforces each changed limit."""
        return {name: self.plan.enforcement[name] for name in self.changed}


def relimit(spec: JobSpec, plan: LaunchPlan, host: Host, changes: Limits) -> Relimit:
    """Decide the change from a job's present limits to those with ``changes`` put in.

    A limit is lifted by ``"infinity"``; one left out stays. Raises :class:`ConfigError` when nothing is
    to be changed, :class:`UnsupportedError` for what this host cannot enforce, or not while the job runs.
    """
    given = changes.given()
    if not given:
        raise ConfigError("limits: none given; name at least one, 'infinity' lifts it")
    new_spec = replace(spec, limits=replace(spec.limits, **given))
    before, after = enforce(spec, host), enforce(new_spec, host)
    old, new = before.limits.given(), after.limits.given()
    changed = {name: amount for name, amount in new.items() if name in given or old.get(name) != amount}
    _refuse_what_comes_too_late(given, plan, after.sampled)
    written = {(write.file, write.text) for write in before.writes}
    writes = [write for write in after.writes if (write.file, write.text) not in written]
    return Relimit(
        spec=new_spec,
        plan=replace(
            plan,
            limits=after.limits,
            enforcement=after.enforcement,
            enforced=after.enforced,
            sampled=after.sampled,
            warnings=tuple(dict.fromkeys((*plan.warnings, *after.warnings))),
        ),
        changed=changed,
        writes=tuple(
            [CgroupStep(path=path, text=write.text, expect=write.expect) for write in writes for path in _places(write.file, plan)]
        ),
        rlimits={number: limit for number, limit in after.rlimits.items() if before.rlimits.get(number) != limit},
        output_max=changed.get("output_max"),
    )


def _places(file: str, plan: LaunchPlan) -> tuple[str, ...]:
    """As at a start: weights count among siblings and stand on the job's own directory, protections everywhere, the rest on its box."""
    if not plan.cgroup_box or file in WEIGHTS:
        return (file,)
    if file not in PROTECTIONS:
        return (f"{plan.cgroup_box}/{file}",)
    leaf = plan.cgroup_payload or plan.cgroup_leaf
    return tuple(dict.fromkeys((file, f"{plan.cgroup_box}/{file}", f"{leaf}/{file}")))


def _refuse_what_comes_too_late(given: Mapping[str, Any], plan: LaunchPlan, sampled: tuple[str, ...]) -> None:
    pinned = any(step.path.endswith(("cpuset.cpus", "cpuset.mems")) for step in plan.cgroup_steps)
    late = [name for name in CPUSET if name in given and not pinned]
    if late:
        raise UnsupportedError(", ".join(late), "the job was started without processors or memory nodes of its own; give them at its start")
    if "output_max" in given and "output_max" not in plan.enforcement and not _passes_through(plan):
        raise UnsupportedError("output_max", "the job's output does not pass through the supervisor; give output_max at its start")
    fresh = [name for name in sampled if name not in plan.sampled]
    if fresh and not plan.sampled:
        raise UnsupportedError(", ".join(fresh), "the job was started without sampling; give it at its start")


def _passes_through(plan: LaunchPlan) -> bool:
    return passes_through_us(plan.stdout) or passes_through_us(plan.stderr)
