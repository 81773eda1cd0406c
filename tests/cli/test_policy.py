# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy``: what each verb prints and its exit status, and ``--policy`` of ``ringfence run``."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import jsonschema
import pytest
from command import ringfence, run

LIBRARY = ("agent", "batch", "ci", "judge", "judge-compile", "service", "untrusted-strict")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and no places but the library."""
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("RINGFENCE_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return name


WRONG = '[profile.x]\nmemory_mx = "1G"\nextends = "y"\n'


def test_check_prints_every_problem_and_exits_1() -> None:
    good = put("good.toml", "[profile.a]\n[profile.b]\n")
    done = ringfence("policy", "check", put("wrong.toml", WRONG), good, "gone.toml")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "wrong.toml:2: memory_mx: unknown key; did you mean 'memory_max'?",
        "wrong.toml:3: extends: there is no profile 'y'",
        "gone.toml: No such file or directory",
        "good.toml: 2 profiles, no problems",
    ]


def test_nothing_in_a_file_can_hide_a_line_from_who_reads_it() -> None:
    escapes = '"x\\u001b[2K\\u202e\\nall well"'
    path = put("sly.toml", f'[profile.a]\ndescription = {escapes}\n[profile.a.sandbox]\nlevel = "strict"\nkeep_env = [{escapes}]\n')
    shown = ringfence("policy", "show", f"{path}#a").stdout + ringfence("policy", "diff", "judge", f"{path}#a").stdout
    checked = ringfence("policy", "check", put("sly2.toml", f"[profile.{escapes}]\n")).stdout
    assert "\\x1b[2K\\u202e\\nall well" in shown and "\\x1b[2K\\u202e\\nall well" in checked
    assert len(checked.splitlines()) == 1
    assert (shown + checked).replace("\n", "").isprintable()


def test_check_as_json() -> None:
    done = ringfence("policy", "check", "--json", put("wrong.toml", WRONG))
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["files"] == [{"file": "wrong.toml", "profiles": ["x"]}]
    assert document["problems"][0] == {
        "file": "wrong.toml",
        "line": 2,
        "key": "memory_mx",
        "message": "unknown key; did you mean 'memory_max'?",
    }


def test_check_without_files_looks_at_every_place() -> None:
    done = ringfence("policy", "check")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 6
    put("config/policy.d/a.toml", "[profile.x]\n")
    put("config/policy.d/b.toml", "[profile.x]\n")
    put("config/policy.d/c.toml", "[")
    done = ringfence("policy", "check")
    assert done.returncode == 1
    assert "b.toml:1: profile.x: is defined in" in done.stdout and "c.toml:1: not valid TOML" in done.stdout


def test_show_lists_what_there_is() -> None:
    put(".ringfence.toml", '[profile.mine]\ndescription = "ours"\n')
    done = ringfence("policy", "show")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["mine", *LIBRARY]
    assert done.stdout.splitlines()[0].split() == ["mine", "project", "ours"]
    assert [row["name"] for row in json.loads(ringfence("policy", "show", "--json").stdout)["profiles"]] == ["mine", *LIBRARY]


SHOWN = """\
[profile.x]
extends = "y"
memory_max = "auto"
best_effort = ["tasks_max", "io_weight"]
[profile.y]
description = "words"
tasks_max = 5
limit_fsize = "16M"
[profile.y.sandbox]
level = "strict"
bind = ["/srv:/data:rw"]
[profile.y.adaptive]
memory_high = { min = "64M", max = "1G" }
"""


def test_show_says_where_each_value_was_written() -> None:
    done = ringfence("policy", "show", put("s.toml", SHOWN) + "#x")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[:3] == [["x:", "words"], ["from", "s.toml#x"], ["extends", "s.toml#y"]]
    assert ["tasks_max", "5", "(best", "effort)", "s.toml:7"] in rows
    assert ["limit_fsize", "16M", "s.toml:8"] in rows
    assert ["best_effort.io_weight", "may", "lapse", "s.toml:4"] in rows
    assert ["sandbox.bind", "/srv", "at", "/data", "(rw)", "s.toml:11"] in rows
    (memory,) = [row for row in rows if row[0] == "memory_max"]
    assert memory[1] == "auto" and memory[3] == "here)" and memory[-1] == "s.toml:3"
    (adaptive,) = [line for line in done.stdout.splitlines() if "adaptive.memory_high" in line]
    assert "64M to 1G" in adaptive and "this version moves no limit" in adaptive


def test_show_as_json() -> None:
    document = json.loads(ringfence("policy", "show", "--json", put("s.toml", SHOWN) + "#x").stdout)
    assert document["chain"] == ["s.toml#x", "s.toml#y"]
    assert document["limits"]["tasks_max"] == {
        "value": "5",
        "here": "5",
        "best_effort": True,
        "origin": {"file": "s.toml", "line": 7, "profile": "y"},
    }
    assert document["sandbox"]["level"] == {"value": "strict", "origin": {"file": "s.toml", "line": 10, "profile": "y"}}
    assert document["sandbox"]["network"] == {"value": "none", "origin": None}
    assert document["adaptive"]["memory_high"]["active"] is False


def test_diff_and_its_exit_status() -> None:
    before, after = put("a.toml", "[profile.x]\ntasks_max = 5\n"), put("b.toml", "[profile.x]\ntasks_max = 6\nlimit_core = 0\n")
    done = ringfence("policy", "diff", before, after)
    assert (done.returncode, done.stdout) == (0, "loosened   tasks_max   5 -> 6\ntightened  limit_core  not set -> 0\n")
    assert ringfence("policy", "diff", "--no-looser", before, after).returncode == 1
    assert ringfence("policy", "diff", "--no-looser", before, before).stdout == "no difference\n"
    document = json.loads(ringfence("policy", "diff", "--json", before, after).stdout)
    assert document["differences"][0] == {"key": "tasks_max", "kind": "loosened", "before": "5", "after": "6"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('bind = [{ source = "/srv", target = "/data" }]', 'bind = [{ source = "/etc", target = "/data", mode = "rw" }]'),
        ('syscalls = "python"', 'syscalls = "network"'),
        ('keep_env = ["TERM"]', 'keep_env = ["TOKEN"]'),
    ],
)
def test_what_may_be_looser_does_not_pass_as_not_looser(before: str, after: str) -> None:
    files = [put(f"{n}.toml", f'[profile.x.sandbox]\nlevel = "strict"\n{text}\n') for n, text in enumerate((before, after))]
    assert ringfence("policy", "diff", "--no-looser", *files).returncode == 1
    assert ringfence("policy", "diff", *files).returncode == 0


def test_convert_writes_a_policy_that_the_check_takes() -> None:
    done = ringfence("policy", "convert", "--name", "web", "docker", "run", "--rm", "-m", "1g", "image")
    assert done.returncode == 0
    assert tomllib.loads(done.stdout)["profile"]["web"]["memory_max"] == "1G"
    assert "ringfence: not carried over: the image and its command: image" in done.stderr
    assert ringfence("policy", "check", put("c.toml", done.stdout)).returncode == 0
    assert ringfence("policy", "convert", "--strict", "docker", "run", "image").returncode == 1
    done = ringfence("policy", "convert", "isolate", "--", "--time=2", "--run", "--", "./a")
    assert tomllib.loads(done.stdout)["profile"]["converted"]["cpu_time_max"] == "2s"
    document = json.loads(ringfence("policy", "convert", "--json", "isolate", "--time=2", "--run", "--", "./a").stdout)
    assert document["lost"] == ["the command: ./a"]


def test_convert_reads_a_unit_from_a_file_or_from_standard_input() -> None:
    unit = "[Service]\nMemoryMax=1G\n"
    done = ringfence("policy", "convert", "systemd", put("x.service", unit))
    assert tomllib.loads(done.stdout)["profile"]["converted"] == {"memory_max": "1G"} and done.stderr == ""
    assert ringfence("policy", "convert", "systemd", "-", input=unit).stdout.endswith('memory_max = "1G"  # MemoryMax=1G (line 2)\n')
    assert ringfence("policy", "convert", "systemd", "gone").returncode == 1


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(ringfence("policy", "schema").stdout))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "unknown verb 'chek'; did you mean 'check'?"),
        (["show", "--jsn"], "unrecognized option '--jsn'"),
        (["show", "a", "b"], "unexpected argument 'b'"),
        (["diff", "a"], "too few arguments"),
        (["convert", "dokcer", "x"], "did you mean 'docker'?"),
        (["convert", "--name", "a b", "docker", "run", "x"], "--name: a profile's name"),
        (["convert", "systemd", "a", "b"], "takes one FILE"),
        (["schema", "x"], "unexpected argument 'x'"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], said: str) -> None:
    done = ringfence("policy", *arguments)
    assert done.returncode == 2 and done.stdout == "" and said in done.stderr


def test_a_profile_that_is_not_there_is_1_and_the_nearest_is_named() -> None:
    done = ringfence("policy", "show", "juge")
    assert (done.returncode, done.stderr) == (
        1,
        "ringfence: there is no profile 'juge'; did you mean 'judge'?; 'ringfence policy show' lists them all\n",
    )


def test_help() -> None:
    for arguments in (["policy", "--help"], ["policy", "check", "--help"], ["policy", "help"]):
        done = ringfence(*arguments)
        assert done.returncode == 0 and done.stdout.startswith("usage: ringfence policy")
    assert ringfence("policy").returncode == 2


def test_odd_bytes_in_a_path_are_shown_and_do_no_harm() -> None:
    done = ringfence("policy", "check", os.fsdecode(b"\xff.toml"), env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1 and "\\udcff.toml: No such file or directory" in done.stdout


# ---- ringfence run --policy ----


def test_run_takes_a_profile_by_its_name_and_options_only_tighten() -> None:
    put("config/policy.d/small.toml", '[profile.small]\nlimit_nofile = 50\nbest_effort = ["memory_max"]\nmemory_max = "50%"\n')
    command = ("sh", "-c", "ulimit -n")
    assert run("--policy", "small", *command).stdout == "50\n"
    assert run("--policy", "small", "--limit-nofile", "60", *command).stdout == "50\n"
    assert run("--policy", "small", "--limit-nofile", "40", "--memory-max", "1G", *command).stdout == "40\n"


def test_run_refuses_a_wrong_profile_with_all_its_problems() -> None:
    done = run("--policy", put("wrong.toml", WRONG), "true")
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        "ringfence: wrong.toml:2: memory_mx: unknown key; did you mean 'memory_max'?",
        "ringfence: wrong.toml:3: extends: there is no profile 'y'",
    ]


SANDBOXED = """\
[profile.inside]
limit_nofile = 50
[profile.inside.sandbox]
level = "strict"
"""


@pytest.mark.requires("mount")
def test_a_policys_sandbox_is_built_and_options_only_add_what_is_worked_on() -> None:
    policy = put("s.toml", SANDBOXED)
    put("given/file", "inside")
    done = run(
        "--policy", policy, "--bind", "given:/data", "--", "sh", "-c", "id -u; cat /data/file; ulimit -n; test -e /home || echo no home"
    )
    assert done.stdout.split("\n") == ["1000", "inside50", "no home", ""]
    for options in (["--sandbox", "none"], ["--sandbox", "basic", "--network", "host"]):
        done = run("--policy", policy, *options, "--", "sh", "-c", "id -u; test -e /home || echo no home")
        assert done.stdout.split() == ["1000", "no", "home"]
