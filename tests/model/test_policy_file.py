# SPDX-License-Identifier: Apache-2.0
"""A policy file: what each key may be, and every problem at once with its line, its key and a remedy."""

from __future__ import annotations

import pytest

from supervisor.model.limit_kinds import LIMITS, Auto, Percent, Rlimit
from supervisor.model.policy.adaptive import ADAPTABLE, Bounds
from supervisor.model.policy.file import FILE_MAX_BYTES, parse_file
from supervisor.model.spelling import ALIASES, limit_name


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse_file(text, "p.toml").all_problems()]


WRONG = [
    ("", ["p.toml:1: there is no [profile.NAME] table"]),
    ("profile = 3\n", ["p.toml:1: there is no [profile.NAME] table"]),
    (
        "[profil.x]\n",
        [
            "p.toml:1: profil: unknown table; profiles are [profile.NAME]; did you mean 'profile'?",
            "p.toml:1: there is no [profile.NAME] table",
        ],
    ),
    ("[profile]\nx = 1\n", ["p.toml:2: profile.x: must be a table"]),
    ('[profile."a b"]\n', ["p.toml:1: profile.a b: a name is made of letters, digits, '_', '-' and '.', at most 100 of them"]),
    ("[profile.x]\nmemory_mx = 1\n", ["p.toml:2: memory_mx: unknown key; did you mean 'memory_max'?"]),
    ("[profile.x]\n\nprofile.x.memory_max = 1\n", ["p.toml:3: profile: unknown key"]),
    ('[profile.x]\ntasks_max = """\n-1"""\n', ["p.toml:2: tasks_max: negative count: write 0 or more"]),
    ("[profile.x]\nmemory_max = 1979-05-27\n", ["p.toml:2: memory_max: expected a text or a number, not date"]),
    ("[profile.x]\nMemoryMax = 1\nmemory_max = 2\n", ["p.toml:3: memory_max: says memory_max a second time; the first is in line 2"]),
    ("[profile.x]\nbest_effort = 'memory_max'\n", ["p.toml:2: best_effort: must be a list of names of limits"]),
    (
        "[profile.x]\nbest_effort = [\n  'tasks_max',\n  'memory',\n]\n",
        ["p.toml:4: best_effort: 'memory' is not a limit; did you mean 'memory_min'?"],
    ),
    ("[profile.x]\nextends = ''\n", ["p.toml:2: extends: names no profile; leave the key out"]),
    ("[profile.x]\nextends = ['a']\n", ["p.toml:2: extends: must be a text, not an array"]),
    ("[profile.x]\ndescription = true\n", ["p.toml:2: description: must be a text, not a boolean"]),
    ("[profile.x]\nsandbox = 'strict'\n", ["p.toml:2: sandbox: must be a table"]),
    ("[profile.x.sandbox]\nlevl = 'strict'\n", ["p.toml:2: sandbox.levl: unknown key; did you mean 'level'?"]),
    ("[profile.x]\nsandbox.network = 'maybe'\n", ["p.toml:2: sandbox.network: 'maybe' is none of none, loopback, host"]),
    (
        "[profile.x.sandbox]\nlevel = 'strikt'\nhostname = ''\nsyscalls_deny = ['mountt', 'execve']\n",
        [
            "p.toml:2: sandbox.level: 'strikt' is none of none, basic, strict",
            "p.toml:3: sandbox.hostname: must have 1 to 64 characters",
            "p.toml:4: sandbox.syscalls_deny: 'mountt' is not a system call; did you mean 'mount'?",
            "p.toml:4: sandbox.syscalls_deny: 'execve' cannot be denied: the job itself is started by it",
        ],
    ),
    (
        "[profile.x.sandbox]\nlevel = 'strict'\ntmp_size = '1K'\nbind = ['/srv', 'x']\n",
        ["p.toml:3: sandbox.tmp_size: must be at least 4K", "p.toml:4: sandbox.bind: bind 'x': source: 'x' must be absolute"],
    ),
    ("[profile.x]\nadaptive = 1\n", ["p.toml:2: adaptive: must be a table of limits, each with { min = ..., max = ... }"]),
    ("[profile.x.adaptive]\nmemory_hi = 1\n", ["p.toml:2: adaptive.memory_hi: is not a limit; did you mean 'memory_high'?"]),
    ("[profile.x.adaptive]\nmemory_high = 1\n", ["p.toml:2: adaptive.memory_high: must be { min = ..., max = ... }"]),
    (
        "[profile.x.adaptive]\nmemory_high = { min = 1, max = 'x' }\n",
        ["p.toml:2: adaptive.memory_high: max: 'x' is not a size: write bytes or a number with K M G T P E, such as 512M, or infinity"],
    ),
    ("[profile.x.adaptive]\nmemory_high = { min = '2%', max = '1%' }\n", ["p.toml:2: adaptive.memory_high: min 2% is above max 1%"]),
    ("[profile.x\n", ["p.toml:1: not valid TOML: Expected ']' at the end of a table declaration (column 11)"]),
    ("[profile.x]\na = '", ['p.toml:2: not valid TOML: Expected "\'" (at the end of the file)']),
    ("[profile.x]\na = 1\na = 2\n", ["p.toml:3: not valid TOML: Cannot overwrite a value (column 6)"]),
    ("[profile.x]\na = " + "[" * 100_000, ["p.toml: nested too deeply, which no policy needs"]),
    ("[profile.x]\n" + " . ".join("a" * 33) + " = 1\n", ["p.toml:2: a key of more than 32 parts, which no policy needs"]),
    ("[" + ".".join("a" * 500_000) + "]\n", ["p.toml:1: a key of more than 32 parts, which no policy needs"]),
    ("[profile.x]\ndescription = '" + "a." * 500 + "'\n", []),
    ("#" + "." * 50 + "\n[profile.x]\nx = [}\n", ["p.toml:3: not valid TOML: Invalid value (column 6)"]),
    ("".join(f"[profile.p{n}]\n" for n in range(1001)), ["p.toml: more than 1000 profiles, which no policy needs"]),
    ("#" * (FILE_MAX_BYTES + 1), [f"p.toml: larger than {FILE_MAX_BYTES} bytes, which no policy needs"]),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text[:40] for text, _ in WRONG])
def test_what_is_wrong_is_told_with_its_line_its_key_and_a_remedy(text: str, said: list[str]) -> None:
    assert problems(text) == said


def test_a_number_of_thousands_of_digits_is_no_crash() -> None:
    """int() refuses it with a plain ValueError."""
    (said,) = problems("[profile.x]\ntasks_max = " + "9" * 5000 + "\n")
    assert said.startswith("p.toml: not valid TOML: ")


def test_only_a_file_that_is_no_toml_is_unreadable() -> None:
    assert not parse_file("[").readable
    assert parse_file("[profile.x]\nwrong = 1\n").readable


def test_an_inherited_level_is_not_held_against_a_profile_that_names_none() -> None:
    """What the level is shows when the chain is known."""
    assert problems("[profile.x.sandbox]\nnetwork = 'none'\ntime_namespace = true\n") == []


GOOD = """\
[profile.x]
extends = "y"
description = "d"
MemoryMax = "50%"
memory-high = "auto"
runtime_max_sec = 1.5
limit_nofile = [1, 2]
best_effort = ["CPUWeight"]
adaptive.memory_high = { min = "64M", max = "1G" }
[profile.x.sandbox]
level = "basic"
"""


def test_values_are_read_and_keep_their_lines() -> None:
    profile = parse_file(GOOD, "p.toml").profiles["x"]
    assert {name: (given.amount, given.origin.line) for name, given in profile.limits.items()} == {
        "memory_max": (Percent(ppm=500_000), 4),
        "memory_high": (Auto(), 5),
        "wall_time_max": (1_500_000_000, 6),
        "limit_nofile": (Rlimit(soft=1, hard=2), 7),
    }
    assert profile.extends is not None and (profile.extends.amount, profile.extends.origin.line) == ("y", 2)
    assert {name: given.origin.line for name, given in profile.best_effort.items()} == {"cpu_weight": 8}
    assert profile.adaptive["memory_high"].amount == Bounds(min=64 << 20, max=1 << 30)
    assert profile.sandbox["level"].amount == "basic" and str(profile.sandbox["level"].origin) == "p.toml:11"
    assert profile.problems == ()


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_its_own_name_and_systemds(name: str) -> None:
    assert {limit_name(name), limit_name(name.replace("_", "-")), limit_name(LIMITS[name].directive)} == {name}


@pytest.mark.parametrize("alias", ALIASES)
def test_systemds_name_in_snake_case_is_taken_where_ours_is_another(alias: str) -> None:
    assert alias not in LIMITS
    assert LIMITS[ALIASES[alias]].directive.lower() == alias.replace("_", "")


def test_what_adapts_is_held_by_a_cgroup_file_that_takes_one_amount() -> None:
    assert set(ADAPTABLE) == {
        "memory_min", "memory_low", "memory_high", "memory_max", "memory_swap_max", "tasks_max", "cpu_quota", "cpu_weight", "io_weight",
    }  # fmt: skip


LARGE = {
    "wrong keys": "[profile.x]\n" + "".join(f"k{n} = 1\n" for n in range(10_000)),
    "wrong names": "[profile.x]\nbest_effort = [" + "'a'," * 20_000 + "]\n",
    "profiles": "".join(f"[profile.p{n}]\n" for n in range(10_000)),
    "nested tables": "[profile.x]\n" + "".join(f"a{n}.b.c = 1\n" for n in range(10_000)),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
@pytest.mark.timeout(20)
def test_a_large_file_is_read_in_a_time_that_grows_with_its_size_alone(text: str) -> None:
    parse_file(text, "p.toml").all_problems()


def test_only_so_many_wrong_words_get_the_nearest_right_one() -> None:
    said = problems("[profile.x]\n" + "".join(f"memory_mx{n} = 1\n" for n in range(150)))
    assert len(said) == 150 and sum("did you mean" in line for line in said) == 100
