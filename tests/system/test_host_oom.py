# SPDX-License-Identifier: Apache-2.0
"""A job that the OOM killer takes although it is below its own limit: the host's doing, not the job's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import supervisor

pytestmark = [pytest.mark.requires("vm", "root", "memory")]

GROW = "b = []\nfor n in range(300): b.append(bytearray(1 << 20))\nprint('done')"


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for jobs inside a cgroup that is itself held to 64 MiB, as a crowded host would be."""
    outer = Path("/sys/fs/cgroup/crowded")
    outer.mkdir()
    (outer / "memory.max").write_text(str(64 << 20))
    (outer / "memory.swap.max").write_text("0")
    monkeypatch.setenv("RINGFENCE_CGROUP", str(outer))
    yield outer
    os.rmdir(outer)


@pytest.mark.usefixtures("crowded")
def test_an_oom_kill_above_the_job_is_the_hosts() -> None:
    outcome = supervisor.run([sys.executable, "-c", GROW], limits={"memory_max": "1G"}, capture_output=True)
    assert outcome.verdict == "host_oom"
    assert "memory_max" not in outcome.limits_hit


@pytest.mark.usefixtures("crowded")
def test_a_job_without_limits_is_ended_as_a_whole_and_never_ok() -> None:
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {GROW!r}])"
    outcome = supervisor.run([sys.executable, "-c", script])
    assert outcome.verdict == "host_oom"


@pytest.mark.usefixtures("crowded")
def test_the_jobs_own_limit_is_told_apart_from_the_crowd() -> None:
    outcome = supervisor.run([sys.executable, "-c", GROW], limits={"memory_max": "32M"})
    assert outcome.verdict == "memory_limit"
    assert outcome.limits_hit == ("memory_max",)
