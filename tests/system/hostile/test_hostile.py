# SPDX-License-Identifier: Apache-2.0
"""Every scenario of the table, one at a time and together, and what must hold after each."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import facts
import pytest
from scenario import Scenario
from stage import PROGRAMS, Stage, needs, runs
from table import COUNT, SCENARIOS
from waiting import SLOW

import supervisor

ROUNDS = int(os.environ.get("RINGFENCE_HOSTILE_ROUNDS", "1"))
AT_ONCE = 4
RUNS = runs(SCENARIOS)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


@pytest.fixture
def nobodys_stage() -> Iterator[Stage]:
    made = Stage(facts.NOBODY)
    yield made
    made.close()


def test_every_number_has_a_scenario_and_every_program_a_row() -> None:
    assert {scenario.number for scenario in SCENARIOS} == set(range(1, COUNT + 1))
    programs = {path.name for path in PROGRAMS.glob("*.*")} - {
        "attack.py",
        "links.py",
        "leaked.py",
        "terminal.py",
        "sockets.py",
        "locks.py",
        "secrets.py",
    }
    assert programs == {scenario.program for scenario in SCENARIOS if scenario.program}


async def assert_clean(stage: Stage, sup: supervisor.Supervisor) -> None:
    """Nothing is left or changed, and the next job works."""
    await _released(sup)
    stage.surroundings.assert_unchanged()
    following = await sup.run(["/bin/true"], sandbox=stage.sandbox("none" if facts.missing("mount") else "strict"))
    assert following.verdict == "ok", following
    await _released(sup)
    stage.surroundings.assert_unchanged()


async def _released(sup: supervisor.Supervisor) -> None:
    """Whoever waits is told first; a job's cgroup goes in the turn after that."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not sup.jobs


def _row(scenario: Scenario, level: str) -> object:
    marks = [pytest.mark.requires(*needs(scenario, level)), pytest.mark.timeout(120 * SLOW)]
    return pytest.param(scenario, level, id=f"{scenario.name}-{level}", marks=marks)


@pytest.mark.parametrize(("scenario", "level"), [_row(scenario, level) for scenario, level in RUNS])
async def test_a_hostile_job_comes_to_what_the_table_says_and_leaves_nothing(stage: Stage, scenario: Scenario, level: str) -> None:
    async with supervisor.Supervisor() as sup:
        await stage.run(sup, scenario, level)
        await assert_clean(stage, sup)


async def side_by_side(stage: Stage, number: int) -> None:
    """All that need no quiet, in a random order, some at once, under one supervisor."""
    chosen = [(scenario, level) for scenario, level in RUNS if not scenario.alone and not any(map(facts.missing, needs(scenario, level)))]
    if stage.user is not None:  # only strict shows another user an interpreter that is ours
        chosen = [(scenario, level) for scenario, level in chosen if level != "basic"]
    random.Random(number).shuffle(chosen)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario, level: str) -> str:
        async with room:
            try:
                await stage.run(sup, scenario, level)
            except Exception as error:
                return f"{scenario.name}-{level}: {error}"
        return ""

    async with supervisor.Supervisor() as sup:
        failed = [problem for problem in await asyncio.gather(*[one(*given) for given in chosen]) if problem]
        assert not failed, "\n".join(failed)
        await assert_clean(stage, sup)


@pytest.mark.requires("cc", "mount")
@pytest.mark.timeout(900 * SLOW)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_hostile_jobs_side_by_side_come_to_the_same(stage: Stage, number: int) -> None:
    await side_by_side(stage, number)


@pytest.mark.requires("cc", "mount", "root")
@pytest.mark.timeout(900 * SLOW)
async def test_hostile_jobs_that_root_gives_to_another_user_come_to_the_same(nobodys_stage: Stage) -> None:
    await side_by_side(nobodys_stage, 0)
