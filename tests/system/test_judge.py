# SPDX-License-Identifier: Apache-2.0
"""A judge's whole way by the ready policy: a submission in C++ is compiled in one strict sandbox and run in another."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import RINGFENCE

import supervisor

pytestmark = [pytest.mark.timeout(300), pytest.mark.requires("mount", "memory", "pids", "cxx")]
POLICY = Path(supervisor.__file__).parent / "policies/judge.toml"
HEAD = "#include <cstdio>\n#include <vector>\n"
SORTS = """
int main() {
    std::vector<int> numbers;
    for (int number; scanf("%d", &number) == 1;)
        numbers.push_back(number);
    for (size_t step = numbers.size() / 2; step > 0; step /= 2)
        for (size_t i = step; i < numbers.size(); i++)
            for (size_t j = i; j >= step && numbers[j - step] > numbers[j]; j -= step)
                std::swap(numbers[j - step], numbers[j]);
    for (int number : numbers)
        printf("%d\\n", number);
}
"""
HOARDS = "int main() { std::vector<std::vector<char>> held; for (;;) held.emplace_back(1 << 20, 'x'); }\n"
SPINS = "int main() { for (volatile unsigned i = 0;; i = i + 1) {} }\n"
CRASHES = "int main() { volatile int *volatile nowhere = nullptr; *nowhere = 1; }\n"
PRIES = 'int main() { if (FILE *file = fopen("/etc/shadow", "r")) return fgetc(file); return 3; }\n'
WRONG = "int main() { return undeclared; }\n"


def outcome_of(profile: str, *args: object, **options: Any) -> Any:
    """The outcome of a command under a profile of the policy, with what it printed."""
    result = options.pop("result")
    command = [RINGFENCE, "run", "--policy", f"{POLICY}#{profile}", "--result", result, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, **options)
    return json.loads(result.read_text()), done


def compiled(folder: Path, source: str) -> tuple[Any, Path]:
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    (folder / "in/solution.cpp").write_text(HEAD + source)
    shown = ("--bind", f"{folder}/in:/in", "--bind", f"{folder}/out:/out:rw")
    outcome, _ = outcome_of(
        "judge-compile", *shown, "--", "g++", "-O1", "-o", "/out/solution", "/in/solution.cpp", result=folder / "compile"
    )
    return outcome, folder / "out/solution"


def judged(folder: Path, source: str, answers: str = "") -> tuple[Any, str]:
    outcome, program = compiled(folder, source)
    assert outcome["verdict"] == "ok", outcome
    outcome, done = outcome_of("judge", "--bind", f"{program}:/solution", "--", "/solution", result=folder / "run", input=answers)
    return outcome, done.stdout


def test_a_right_solution_is_right_and_what_it_used_is_told(tmp_path: Path) -> None:
    numbers = random.Random(1).sample(range(10**9), 20_000)
    outcome, said = judged(tmp_path, SORTS, "\n".join(map(str, numbers)))
    assert said.split() == [str(number) for number in sorted(numbers)]
    assert (outcome["verdict"], outcome["exit"]["code"]) == ("ok", 0)
    assert outcome["usage"]["cpu_ns"] > 0 and outcome["usage"]["memory_peak_bytes"] > 80_000


@pytest.mark.parametrize(
    ("source", "verdict", "hit"),
    [
        pytest.param(HOARDS, "memory_limit", ["memory_max"], id="hoards"),
        pytest.param(SPINS, "cpu_limit", ["cpu_time_max"], id="spins"),
        pytest.param(CRASHES, "signaled", [], id="crashes"),
        pytest.param(PRIES, "nonzero_exit", [], id="pries"),
    ],
)
def test_a_wrong_solution_is_told_apart(tmp_path: Path, source: str, verdict: str, hit: list[str]) -> None:
    outcome, _ = judged(tmp_path, source)
    assert (outcome["verdict"], outcome["limits_hit"]) == (verdict, hit), outcome


def test_what_does_not_compile_is_the_compilers_own_verdict_and_leaves_no_program(tmp_path: Path) -> None:
    outcome, program = compiled(tmp_path, WRONG)
    assert (outcome["verdict"], outcome["exit"]["code"]) == ("nonzero_exit", 1)
    assert not program.exists()
