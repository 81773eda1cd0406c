# SPDX-License-Identifier: Apache-2.0
"""What the one-shot path may load: ``ringfence run`` starts in a few milliseconds more than Python itself."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest
from source_tree import CHECKOUT

FORBIDDEN = {"asyncio", "dataclasses", "inspect", "enum", "typing", "re", "json", "psutil", "pydantic", "rich", "click", "subprocess"}
# without site, so that what an installer's start-up files import is not taken for ours
SCRIPT = """
import sys
sys.path[:0] = sys.argv[2:]
before = set(sys.modules)
__import__(sys.argv[1])
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(module: str) -> set[str]:
    """Modules that importing one brings in, in a Python of its own."""
    places = [str(CHECKOUT), sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", SCRIPT, module, *places], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_the_one_shot_path_loads_nothing_heavy() -> None:
    loaded = loaded_by("supervisor.runtime.oneshot")
    assert "supervisor.kernel.native" in loaded
    assert not loaded & FORBIDDEN


def imported_by(*arguments: str) -> set[str]:
    """Every module that a command of this interpreter imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_the_installed_command_loads_nothing_heavy() -> None:
    """Neither does the script that an installer puts before it: pip's imports re."""
    command = sysconfig.get_path("scripts") + "/ringfence"
    loaded = imported_by(command, "run", "--", "/bin/true") - imported_by("-c", "pass")
    assert "supervisor.cli.main" in loaded
    assert not loaded & FORBIDDEN


def test_a_job_without_a_policy_loads_nothing_of_policies_and_one_with_nothing_heavy() -> None:
    assert not [name for name in loaded_by("supervisor.cli.run") if "policy" in name or name.endswith((".relative", ".sandbox"))]
    assert not loaded_by("supervisor.kernel.policy_files") & FORBIDDEN


@pytest.mark.parametrize("module", ["supervisor.model.plan", "supervisor.model.classify", "supervisor.control.watch"])
def test_the_pure_layers_load_only_themselves(module: str) -> None:
    others = {name for name in loaded_by(module) if name.split(".")[0] not in ("supervisor", "__future__")}
    assert not others


def test_a_pools_worker_loads_next_to_nothing() -> None:
    loaded = loaded_by("supervisor.worker.serve")
    assert {name for name in loaded if name.startswith("supervisor")} == {"supervisor", "supervisor.worker"} | {
        f"supervisor.worker.{name}" for name in ("serve", "wire")
    }
    assert not loaded & (FORBIDDEN | {"socket", "pickle", "signal", "traceback"})


def test_importing_the_package_loads_nothing_at_all() -> None:
    assert loaded_by("supervisor") <= {"supervisor", "__future__"}
