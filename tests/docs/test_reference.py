# SPDX-License-Identifier: Apache-2.0
"""The reference pages name everything there is: options, fields, verdicts, names, errors, stages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor
from supervisor import errors
from supervisor.cli.main import VERBS
from supervisor.cli.options import OTHER
from supervisor.kernel.native import STAGES
from supervisor.model import isolate_options, runexec_options, timeout_options
from supervisor.model.check import Health
from supervisor.model.classify import VERDICT_OF
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.outcome import Change, Exit, Outcome, StartError, Usage, Verdict
from supervisor.model.service import RESTARTS, TYPES, Recovery, ServiceSpec
from supervisor.model.service_state import ServiceResult, ServiceState
from supervisor.model.spec import KILL_MODES, JobSpec
from supervisor.model.value import field_names

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def codes(page: str) -> set[str]:
    """Everything that stands in a code span of a reference page, call parentheses left out."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text)
    return {re.split(r"[ (=]", span)[0] for span in spans}


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_limit_has_a_row() -> None:
    assert LIMITS.keys() <= codes("limits.md")


def test_every_option_is_documented() -> None:
    assert {f"--{name}" for name in OTHER} <= codes("cli.md")


def test_no_option_is_documented_that_does_not_exist() -> None:
    known = {f"--{name}" for name in (*OTHER, *(name.replace("_", "-") for name in LIMITS))}
    assert {span for span in codes("cli.md") if span.startswith("--")} <= {*known, "--", "--version"}


def test_every_verb_is_documented() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert not [verb for verb in VERBS if f"`ringfence {verb}" not in text]


@pytest.mark.parametrize("long", [isolate_options.LONG, runexec_options.LONG, timeout_options.LONG])
def test_every_option_of_another_tool_is_documented(long: dict[str, int]) -> None:
    told = {"--help"}
    assert {f"--{name}" for name in long} - told <= codes("compat.md")


def test_every_verdict_is_mapped() -> None:
    assert {Verdict.OK, Verdict.HOST_OOM, Verdict.SANDBOX_ERROR, *isolate_verdicts()} <= codes("compat.md")


def isolate_verdicts() -> set[str]:
    """What can come of the limits that these tools have."""
    return {VERDICT_OF[name] for name in ("cpu_time_max", "wall_time_max", "memory_max", "tasks_max", "limit_fsize", "cancelled")}


def test_every_field_and_verdict_is_documented() -> None:
    fields = {name for kind in (Outcome, Usage, StartError, Exit, Change) for name in field_names(kind)}
    assert fields | set(Verdict.ALL) <= codes("outcome.md")


def test_every_word_of_a_service_is_documented() -> None:
    fields = {name for kind in (ServiceSpec, Recovery) for name in field_names(kind)}
    assert fields | {*ServiceState.ALL, *ServiceResult.ALL, *TYPES, *RESTARTS, *KILL_MODES} <= codes("services.md")
    text = (REFERENCE / "services.md").read_text(encoding="utf-8")
    assert not [name for name in field_names(Health) if f"{name}=" not in text and f"{name}," not in text]


def test_every_public_name_is_documented() -> None:
    pages = codes("python.md") | codes("services.md")
    found = pages | {span.split(".")[-1] for span in pages}
    assert set(supervisor.__all__) <= found
    assert set(field_names(JobSpec)) <= found


@pytest.mark.parametrize("name", [name for name in vars(errors) if name.endswith(("Error", "Failed"))])
def test_every_error_is_documented(name: str) -> None:
    assert name in codes("errors.md")


def test_every_stage_is_documented() -> None:
    assert set(STAGES) - {"none"} <= codes("errors.md")
