# SPDX-License-Identifier: Apache-2.0
"""``ringfence run --sandbox``: the options reach the sandbox, and its failures have the contract's exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]


def test_a_relative_bind_starts_at_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/f").write_text("text\n")
    done = run("--sandbox", "strict", "--bind", "in:/data", "--", "cat", "/data/f", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "text\n"), done.stderr


def test_the_network_is_chosen() -> None:
    script = "grep -c : /proc/net/dev"
    assert run("--sandbox=strict", "--network=none", "--", "sh", "-c", script).stdout == "1\n"


def test_variables_are_set_in_a_clean_environment() -> None:
    done = run("--sandbox", "strict", "--setenv", "A=b", "--", "env")
    assert sorted(line.split("=")[0] for line in done.stdout.splitlines()) == ["A", "HOME", "LANG", "PATH"]


def test_a_sandbox_that_cannot_be_built_is_125_and_one_line() -> None:
    done = run("--sandbox", "strict", "--bind", "/nonexistent", "--json", "--", "true")
    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["verdict"], outcome["error"]["stage"]) == (125, "sandbox_error", "bind")
    assert len(done.stderr.splitlines()) == 1 and "the source does not exist" in done.stderr


def test_a_command_that_is_not_inside_is_127() -> None:
    done = run("--sandbox", "strict", "--", "ringfence-no-such-command")
    assert done.returncode == 127 and "not found in the sandbox" in done.stderr


@pytest.mark.parametrize("level", ["basic", "strict"])
def test_explain_prints_the_levels_list_and_runs_nothing(level: str) -> None:
    done = run("--sandbox", level, "--explain", "--", "sh", "-c", "echo ran")
    assert done.returncode == 0 and "steps:" in done.stdout and "\nran\n" not in done.stdout
    assert f"  sandbox                               {level}: " in done.stdout
    assert ("pivot" in done.stdout) == (level == "strict")


# system calls


def test_a_call_is_denied_by_name_without_a_sandbox_around_it() -> None:
    done = run("--syscalls-deny", "mkdir,mkdirat", "--json", "--", "mkdir", "made")
    outcome = json.loads(done.stdout)
    assert outcome["verdict"] == "nonzero_exit" and set(outcome["denied_syscalls"]) <= {"mkdir", "mkdirat"} and outcome["denied_syscalls"]


def test_the_preset_is_chosen_and_explained() -> None:
    text = run("--sandbox", "strict", "--syscalls", "compute", "--syscalls-allow", "@debug", "--explain", "--", "true").stdout
    assert "system call filter 'compute'" in text and "allowed besides: @debug" in text
    assert "system call filter 'none'" in (text := run("--syscalls-deny", "socket", "--explain", "--", "true").stdout)
    assert "denied besides: socket" in text


@pytest.mark.parametrize("option", ["--syscalls", "--syscalls-allow", "--syscalls-deny"])
def test_a_misspelt_call_or_preset_is_refused_with_a_suggestion(option: str) -> None:
    done = run("--sandbox", "strict", option, "defaultt" if option == "--syscalls" else "sockett", "--", "true")
    assert done.returncode == 125 and "did you mean" in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_option_does_not_loosen_a_policys_filter(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[profile.p.sandbox]\nlevel = "strict"\nsyscalls_allow = ["ptrace"]\n')
    assert run("--policy", f"{tmp_path}/p.toml", "--syscalls-allow", "ptrace", "--", "true").returncode == 0
    done = run("--policy", f"{tmp_path}/p.toml", "--syscalls-allow", "bpf", "--", "true")
    assert done.returncode == 125 and "'bpf' would loosen the policy" in done.stderr
