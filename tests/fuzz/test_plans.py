# SPDX-License-Identifier: Apache-2.0
"""A short campaign on launch plans finds nothing, and the fuzzer finds a check that is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import plans

pytestmark = pytest.mark.requires("sanitizers")


def test_a_short_campaign_finds_nothing(tmp_path: Path) -> None:
    done = plans.run(tmp_path, seconds=2, seed=1)
    assert done.returncode == 0, done.stderr
    assert "8 of 8 seeds taken" in done.stdout


@pytest.mark.parametrize(
    ("check", "instead"),
    [
        ("case SUP_STAGE_SECCOMP: return programs_fit(hook);", ""),
        ("case SUP_STAGE_LANDLOCK: return rules_fit(plan, hook);", ""),
        ("(uint64_t)hook->data_off + hook->data_len > plan->size", "0"),
    ],
)
def test_a_check_that_is_left_out_is_found(check: str, instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (plans.NATIVE / "plan.c").read_text()
    assert check in text
    broken = tmp_path / "plan.c"
    broken.write_text('#pragma GCC diagnostic ignored "-Wunused-function"\n' + text.replace(check, instead))
    sources = [broken if source.name == "plan.c" else source for source in plans.sources()]
    monkeypatch.setattr(plans, "sources", lambda: sources)
    done = plans.run(tmp_path, seconds=20, seed=1)
    assert "AddressSanitizer" in done.stderr, (done.stdout, done.stderr)
    assert (tmp_path / "find").stat().st_size > 4
