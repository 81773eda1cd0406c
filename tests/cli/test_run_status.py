# SPDX-License-Identifier: Apache-2.0
"""``ringfence run``: exit statuses, the summary, the JSON, the options."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import facts
import pytest
from command import ringfence, run, run_json
from programs import RINGFENCE, as_nobody, probe, python, sh

pytestmark = pytest.mark.usefixtures("holder")
KEYS = [
    "version",
    "verdict",
    "exit",
    "killed",
    "limits_hit",
    "usage",
    "sources",
    "enforcement",
    "warnings",
    "error",
    "denied_syscalls",
    "changes",
]


@pytest.mark.parametrize("code", [0, 1, 7, 124, 125, 126, 127, 137, 255])
def test_the_exit_status_is_the_commands_own(code: int) -> None:
    """And nothing is said about it."""
    done = run(*sh("exit $1", code))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("number", [1, 2, 9, 11, 15])
def test_a_signal_of_the_commands_own_is_128_and_its_number(number: int) -> None:
    """As a shell says it."""
    done = run("--limit-core", 0, *sh("kill -$1 $$", number))
    assert (done.returncode, done.stderr) == (128 + number, "")


@pytest.mark.parametrize(
    ("option", "command", "words"),
    [
        ("--wall-time-max=0.2s", ["sleep", "60"], "wall_limit (wall_time_max)"),
        ("--cpu-time-max=200ms", probe("spin", 1, 1, 30), "cpu_limit (cpu_time_max)"),
        ("--idle-time-max=300ms", ["sleep", "60"], "idle_limit (idle_time_max)"),
        ("--output-max=1K", ["yes"], "output_limit (output_max)"),
        (
            "--limit-fsize=1K",
            ["dd", "if=/dev/zero", "of=/dev/shm/ringfence-test-file", "bs=1K", "count=9"],
            "file_size_limit (limit_fsize)",
        ),
    ],
)
def test_a_limit_that_ended_the_command_is_124_and_a_line_for_people(option: str, command: list[str], words: str) -> None:
    """The summary goes to standard error, and --quiet leaves it out."""
    try:
        loud = run(option, *command)
        assert loud.returncode == 124
        assert loud.stderr.splitlines()[-1].startswith(f"ringfence: {words}")
        quiet = run("--quiet", option, *command)
        assert quiet.returncode == 124 and "ringfence" not in quiet.stderr
    finally:
        Path("/dev/shm/ringfence-test-file").unlink(missing_ok=True)


def test_what_cannot_be_run_is_126_or_127_as_in_a_shell(tmp_path: Path) -> None:
    """Not executable, a directory, missing."""
    plain = tmp_path / "plain"
    plain.write_text("")
    assert [run(each).returncode for each in (plain, tmp_path, "/no/such", "no-such-command-at-all")] == [126, 126, 127, 127]
    done = run("no-such-command-at-all")
    assert done.stderr == "ringfence: no-such-command-at-all: command not found in PATH\n"


REFUSED: dict[str, tuple[list[Any], str]] = {
    "no command": ([], "the command is missing"),
    "only the dashes": (["--"], "the command is missing"),
    "an unknown option": (["--memory-maxx=1G", "true"], "--memory-maxx: unknown option; did you mean 'memory-max'?"),
    "a typing error": (["--wal-time-max=1", "true"], "did you mean 'wall-time-max'?"),
    "an unknown letter": (["-z", "true"], "-z: unknown option"),
    "an unknown property": (["-p", "MemoryMx=1G", "true"], "unknown property 'MemoryMx'; did you mean 'MemoryMax'?"),
    "a property without a value": (["-p", "MemoryMax", "true"], "must be NAME=VALUE"),
    "a missing value": (["--memory-max"], "--memory-max: a value is missing"),
    "a value for a flag": (["--json=yes", "true"], "--json: takes no value"),
    "a size that is none": (["--output-max=lots", "true"], "output_max: 'lots' is not a size"),
    "a duration that is none": (["--wall-time-max=1parsec", "true"], "unknown unit 'parsec'"),
    "a bad variable": (["--setenv", "novalue", "true"], "must be NAME=VALUE"),
    "a bad number": (["--nice=high", "true"], "--nice: 'high' is not a whole number"),
    "a bad umask": (["--umask=9", "true"], "--umask: '9' is not an octal number"),
    "an unknown user": (["--user=no-such-user", "true"], "there is no user 'no-such-user'"),
    "a sandbox": (["--sandbox=tight", "true"], "none, basic, strict"),
    "a bind": (["--bind=/x", "true"], "needs the level basic or strict"),
    "a bind that climbs": (["--sandbox=strict", "--bind=/tmp:/a/../b", "true"], "must not hold '..'"),
    "a network": (["--sandbox=strict", "--network=some", "true"], "none, loopback, host"),
    "a network without sandbox": (["--network=none", "true"], "needs the level strict"),
    "an unknown best effort": (["--best-effort=memry_max", "true"], "'memry_max' is not a limit"),
    "a missing input": (["--stdin=/no/such/file", "true"], "/no/such/file: No such file or directory"),
    "a missing policy": (["--policy=/no/such/file", "true"], "/no/such/file: No such file or directory"),
    "pty and json": (["--pty", "--json", "true"], "--pty: cannot be combined"),
    "a grace without end": (["--kill-grace=infinity", "true"], "kill_grace"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_125_and_a_word_on_how_to_do_it(case: str) -> None:
    """One line on standard error, nothing on standard output, nothing run."""
    args, words = REFUSED[case]
    done = run(*args)
    assert (done.returncode, done.stdout) == (125, "")
    assert words in done.stderr and done.stderr.startswith("ringfence: ")
    assert "Traceback" not in done.stderr


def test_a_limit_that_cannot_be_enforced_is_refused_unless_best_effort() -> None:
    """RINGFENCE_CGROUP=none takes every controller away."""
    env = {**os.environ, "RINGFENCE_CGROUP": "none"}
    done = run("--cpu-weight=5", "true", env=env)
    assert done.returncode == 125
    assert "cpu_weight cannot be enforced here" in done.stderr
    done = run("--cpu-weight=5", "--best-effort=CPUWeight", "true", env=env)
    assert done.returncode == 0
    assert "warning: cpu_weight is not enforced" in done.stderr


# JSON


def test_json_is_the_outcome_with_the_streams_inside() -> None:
    """One document on standard output and nothing else there."""
    done = run("--json", *sh("echo out; echo err >&2; exit 3"))
    made = json.loads(done.stdout)
    assert done.returncode == 3 and done.stderr == ""
    assert list(made) == [*KEYS, "stdout", "stderr", "truncated"]
    assert (made["verdict"], made["exit"], made["stdout"], made["stderr"]) == (
        "nonzero_exit",
        {"code": 3, "signal": None, "core": False},
        "out\n",
        "err\n",
    )
    assert (made["truncated"], made["usage"]["stdout_bytes"], made["usage"]["stderr_bytes"]) == (False, 4, 4)


def test_json_holds_bytes_that_are_no_text_as_base64() -> None:
    """Exact, whatever they are."""
    made = run_json(*sh("printf '\\377\\000x'"))
    assert made["stdout"] == {"base64": "/wB4"}


def test_json_of_a_failed_start_has_the_error() -> None:
    """stage, errno, message."""
    done = run("--json", "/no/such/program")
    made = json.loads(done.stdout)
    assert done.returncode == 127
    assert made["verdict"] == "start_failed"
    assert made["error"] == {"stage": "exec", "errno": 2, "message": "/no/such/program: command not found"}


def test_json_under_a_limit_on_output_is_cut_and_says_so() -> None:
    """Exactly the limit is there."""
    made = run_json("--output-max=1000", "yes")
    assert (made["verdict"], made["truncated"], len(made["stdout"])) == ("output_limit", True, 1000)


# what the command gets


def test_arguments_pass_through_untouched() -> None:
    """Dashes, blanks, empty ones, and options of the command's own after its name."""
    args = ["--", "-x", "--json", "a b", "", "*", "caf\u00e9", "--memory-max=1"]
    assert json.loads(run(*python("import json, sys; print(json.dumps(sys.argv[1:]))"), *args).stdout) == args
    assert run("--", "echo", "--json").stdout == "--json\n"
    assert run("echo", "-n", "x").stdout == "x"


def test_standard_streams_are_the_commands_own() -> None:
    """What comes in goes to it, what it says goes out."""
    done = run(*sh("cat; echo err >&2"), input="through\n")
    assert (done.stdout, done.stderr) == ("through\n", "err\n")


def test_streams_can_be_files(tmp_path: Path) -> None:
    """--stdin, --stdout, --stderr; the same name for both keeps the order."""
    (tmp_path / "in").write_text("text")
    done = run("--stdin", tmp_path / "in", "--stdout", tmp_path / "out", "--stderr", tmp_path / "err", *sh("cat; echo e >&2"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("text", "e\n")
    run("--stdout", tmp_path / "both", "--stderr", tmp_path / "both", *sh("echo 1; echo 2 >&2; echo 3"))
    assert (tmp_path / "both").read_text() == "1\n2\n3\n"


@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "C"}, {"LANG": "C"}, {"LC_ALL": "POSIX"}], ids=str)
def test_the_environment_is_as_we_got_it(given: dict[str, str]) -> None:
    """Python adds LC_CTYPE to its own in the C locale (PEP 538): that is not what the caller asked for."""
    expected = {name: os.environ[name] for name in ("PATH", "RINGFENCE_CGROUP") if name in os.environ} | given
    lines = run("/usr/bin/env", env=expected).stdout.splitlines()
    assert dict(line.split("=", 1) for line in lines) == expected


def test_the_environment_is_ours_with_changes_or_empty() -> None:
    """--setenv repeats, --clear-env keeps PATH only."""
    assert run("--setenv", "A=1", "--setenv", "B=x=y", *sh('echo "$A $B $C"'), env={**os.environ, "C": "3"}).stdout == "1 x=y 3\n"
    assert run("--clear-env", "--setenv", "A=1", "/usr/bin/env").stdout.split("\n")[:-1] == [f"PATH={os.environ['PATH']}", "A=1"]


def test_working_directory_umask_and_nice(tmp_path: Path) -> None:
    """Read by the command itself."""
    assert run("--working-directory", tmp_path, "pwd").stdout == f"{tmp_path}\n"
    assert run("--umask=027", *sh("umask")).stdout == "0027\n"
    assert run("--nice=5", "nice").stdout == "5\n"
    assert run("--cpu-affinity=0", *python("import os; print(os.sched_getaffinity(0))")).stdout == "{0}\n"
    assert run("--no-new-privileges", "grep", "NoNewPrivs", "/proc/self/status").stdout == "NoNewPrivs:\t1\n"


@pytest.mark.requires("root")
def test_root_runs_a_command_as_somebody_else() -> None:
    """By name and by number, with that account's groups."""
    assert run("--user=nobody", "id", "-u").stdout == f"{facts.NOBODY}\n"
    assert run("-u", facts.NOBODY, "--group", "12345", "id", "-g").stdout == "12345\n"
    assert as_nobody()


def test_limits_have_all_three_spellings(tmp_path: Path) -> None:
    """--limit-nofile, -p LimitNOFILE, -p limit_nofile; the last one of several counts."""
    command = sh("ulimit -n")
    for option in (
        ["--limit-nofile=64"],
        ["--limit-nofile", "64"],
        ["-p", "LimitNOFILE=64"],
        ["-plimit_nofile=64"],
        ["--limit-nofile=9", "--limit-nofile=64"],
    ):
        assert run(*option, *command).stdout == "64\n", option


@pytest.mark.requires("memory")
def test_memory_max_by_its_systemd_name_is_enforced() -> None:
    """-p MemoryMax=64M and the bomb."""
    done = run("-p", "MemoryMax=64M", *probe("bomb", 0, 300))
    assert done.returncode == 124 and "memory_limit (memory_max)" in done.stderr


def test_a_policy_file_and_options_only_ever_tighten_each_other(tmp_path: Path) -> None:
    """Whichever is less holds; a profile is named after the number sign."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[profile.small]\nlimit_nofile = 50\n[profile.large]\nlimit_nofile = 500\nwall_time_max = "30s"\n')
    command = sh("ulimit -n")
    assert run("--policy", f"{policy}#small", *command).stdout == "50\n"
    assert run("--policy", f"{policy}#large", *command).stdout == "500\n"
    assert run("--policy", f"{policy}#large", "--limit-nofile=99", *command).stdout == "99\n"
    assert run("--policy", f"{policy}#small", "--limit-nofile=99", *command).stdout == "50\n"
    done = run("--policy", policy, *command)
    assert done.returncode == 125 and "small, large" in done.stderr
    policy.write_text("[profile.a]\nmemory_mx = 1\nwall_time_max = 'x'\n")
    done = run("--policy", policy, *command)
    assert done.returncode == 125
    assert f"{policy}:2: memory_mx: unknown key" in done.stderr and f"{policy}:3: wall_time_max" in done.stderr


def test_explain_prints_the_plan_and_runs_nothing(tmp_path: Path, holder: str) -> None:
    """Every step and every limit with who enforces it."""
    done = run("--explain", "--wall-time-max=5s", "--limit-nofile=64", "--umask=022", "touch", tmp_path / "made")
    assert done.returncode == 0 and not (tmp_path / "made").exists()
    for words in (
        "command: touch",
        "rlimit               RLIMIT_NOFILE 64",
        "umask                0022",
        "wall_time_max          5s",
        "timer on CLOCK_MONOTONIC",
        "exec",
    ):
        assert words in done.stdout, words
    assert ("cgroup.kill" in done.stdout) == (holder == "cgroup")


def test_help_and_version_and_verbs() -> None:
    """Every limit and option is in the help; unknown verbs are usage errors with a suggestion."""
    text = run("--help").stdout
    for word in ("--memory-max", "--cpu-time-max", "--limit-nofile", "--io-read-bandwidth-max", "--result", "--kill-grace", "--pty"):
        assert word in text
    assert ringfence("--version").stdout.startswith("ringfence ")
    assert ringfence("help").returncode == 0
    done = ringfence("rnu")
    assert done.returncode == 2 and "did you mean 'run'?" in done.stderr
    assert ringfence().returncode == 2


def test_the_command_works_from_a_module_too() -> None:
    """``python -m supervisor run``."""
    import sys

    done = subprocess.run([sys.executable, "-m", "supervisor", "run", "echo", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "x\n")


def test_a_job_inside_a_job_works() -> None:
    """ringfence run ringfence run: limits and trees nest."""
    done = run("--wall-time-max=30s", RINGFENCE, "run", "--limit-nofile=99", *sh("ulimit -n; kill -9 $$"))
    assert (done.stdout, done.returncode) == ("99\n", 137), done.stderr
