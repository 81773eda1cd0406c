# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.relimit`` claims: a limit that is set on a running job stands where a start would have put it."""

from __future__ import annotations

from typing import Any

import pytest
from model_strategies import FULL_HOST

from supervisor.model.host import SandboxFacts
from supervisor.model.limits import Limits
from supervisor.model.plan import make_environment, make_plan
from supervisor.model.relimit import relimit
from supervisor.model.sandbox import Sandbox
from supervisor.model.spec import JobSpec
from supervisor.model.value import replace

HOST = replace(FULL_HOST, sandbox=SandboxFacts(uid=0, gid=0, mount_capable=True, landlock_abi=6))

CHANGES: dict[str, dict[str, Any]] = {
    "memory.min": {"memory_min": "8M"},
    "memory.low": {"memory_low": "8M"},
    "memory.high": {"memory_high": "8M"},
    "pids.max": {"tasks_max": 9},
    "cpu.max": {"cpu_quota": "50%"},
    "cpu.weight": {"cpu_weight": 7},
}


@pytest.mark.parametrize("file", ["memory.min", "memory.low"])
def test_a_protection_of_a_strict_job_that_began_without_limits_stands_on_its_box(file: str) -> None:
    before = JobSpec(argv=("true",), sandbox=Sandbox(level="strict"))
    change = relimit(before, make_plan(before, HOST, make_environment({})), HOST, Limits(**CHANGES[file]))
    assert [write.path for write in change.writes] == [file, f"box/{file}"]


@pytest.mark.parametrize("level", ["none", "strict"])
@pytest.mark.parametrize("file", CHANGES)
def test_a_limit_is_set_in_every_directory_where_a_start_would_have_written_it(file: str, level: str) -> None:
    """A protection holds only as far as the directory above grants it and the one below has it: set on one of them it is none."""
    before = JobSpec(argv=("true",), sandbox=Sandbox(level=level), limits=Limits(memory_max="64M"))
    change = relimit(before, make_plan(before, HOST, make_environment({})), HOST, Limits(**CHANGES[file]))
    started = make_plan(change.spec, HOST, make_environment({}))
    assert change.writes == tuple([step for step in started.cgroup_steps if step.path.split("/")[-1] == file])
