# SPDX-License-Identifier: Apache-2.0
"""runexec's command line and its results (BenchExec 3.35: doc/runexec.md, doc/run-results.md)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.limits import show_limit
from supervisor.model.outcome import Exit, Outcome, StartError, Usage
from supervisor.model.runexec_options import CONTAINER, LONG, parse_runexec
from supervisor.model.runexec_result import format_runexec

START = "2026-11-24T23:58:58.233100+00:00"


@pytest.mark.parametrize(
    ("argv", "limits"),
    [
        ((), {}),
        (("--timelimit", "60"), {"cpu_time_max": "1min", "wall_time_max": "1min 30s"}),
        (("--timelimit=2min", "--walltimelimit=1h"), {"cpu_time_max": "2min", "wall_time_max": "1h"}),
        (("--softtimelimit=5s",), {"wall_time_max": "35s"}),
        (("--walltimelimit", "1d"), {"wall_time_max": "1d"}),
        (("--memlimit", "2GB"), {"memory_max": "1953125K"}),
        (("--memlimit", "5 kB"), {"memory_max": "5000"}),
        (("--cores", "0,2-3"), {"allowed_cpus": "0,2-3"}),
        (("--memoryNodes=0",), {"allowed_memory_nodes": "0"}),
        (("--set-cgroup-value", "pids.max=7", "--set-cgroup-value=cpu.weight=50"), {"tasks_max": "7", "cpu_weight": "50"}),
    ],
)
def test_limits_have_runexecs_units_and_defaults(argv: tuple[str, ...], limits: dict[str, str]) -> None:
    """Powers of 1000; wall time is processor time and 30 s unless said otherwise."""
    made = parse_runexec([*argv, "--no-container", "true"])
    assert {name: show_limit(name, amount) for name, amount in made.limits.given().items()} == limits


def test_the_rest_of_the_command_line() -> None:
    made = parse_runexec("--no-container --softtimelimit 5 --output o --input - --dir d --maxOutputSize 1MB --quiet -- a --x".split())
    assert (made.argv, made.soft_time_ns, made.output, made.input, made.directory) == (("a", "--x"), 5_000_000_000, "o", "-", "d")
    assert (made.max_output_bytes, made.quiet, made.container, made.cleanup) == (1_000_000, True, False, True)
    assert parse_runexec(["--hidden-dir", "/x", "true"]).container_options == ("hidden-dir",)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "the command is missing"),
        (["--timelimit", "0", "a"], "more than zero"),
        (["--timelimit", "1.5", "a"], "--timelimit: '1.5'"),
        (["--timelimit", "-1", "a"], "--timelimit: '-1'"),
        (["--timelimit", "5ms", "a"], "--timelimit: '5ms'"),
        (["--memlimit", "5KiB", "a"], "--memlimit: '5KiB'"),
        (["--memlimit", "99999999999TB", "a"], "out of range"),
        (["--softtimelimit", "6", "--timelimit", "5", "a"], "must not be larger"),
        (["--cores", "x", "a"], "--cores: "),
        (["--set-cgroup-value", "x", "a"], "SUBSYSTEM.OPTION=VALUE"),
        (["--set-cgroup-value", "cpu.shares=5", "a"], "cpu.shares is not one of the files"),
        (["--input", "f", "--output", "f", "a"], "same file"),
        (["--quiet", "--debug", "a"], "exclude each other"),
        (["@file", "a"], "not read from a file"),
        (["echo", "Test", "--foo"], "unrecognized option '--foo'"),
    ],
)
def test_what_is_wrong_is_named(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_runexec(argv)


def test_results_stand_in_runexecs_order_with_its_units() -> None:
    """The example of doc/runexec.md, with what newer versions add."""
    usage = Usage(
        cpu_ns=1_671_000,
        wall_ns=2_000_000_000,
        memory_peak_bytes=131072,
        io_read_bytes=0,
        io_write_bytes=4096,
        pressure={"cpu": {"some": 1500, "full": 0}, "memory": {"some": 0}, "io": {"some": 20_000_000}},
    )
    assert format_runexec(Outcome(verdict="ok", exit=Exit(code=0), usage=usage), START) == (
        f"starttime={START}\n"
        "returnvalue=0\n"
        "walltime=2s\n"
        "cputime=0.001671s\n"
        "memory=131072B\n"
        "blkio-read=0B\n"
        "blkio-write=4096B\n"
        "pressure-cpu-some=0.0000015s\n"
        "pressure-io-some=0.02s\n"
        "pressure-memory-some=0s\n"
    )


@pytest.mark.parametrize(
    ("verdict", "killed", "reason"),
    [
        ("ok", False, None),
        ("cpu_limit", True, "cputime"),
        ("cpu_limit", False, None),  # above the limit, but it ended by itself
        ("wall_limit", True, "walltime"),
        ("memory_limit", True, "memory"),
        ("host_oom", True, "killed"),
        ("cancelled", True, "killed"),
        ("signaled", False, None),
    ],
)
def test_reasons_say_who_ended_a_run(verdict: str, killed: bool, reason: str | None) -> None:
    lines = format_runexec(Outcome(verdict=verdict, exit=Exit(signal=9), killed=killed), START).splitlines()
    assert lines == [f"starttime={START}", *([f"terminationreason={reason}"] if reason else []), "exitsignal=9"]


def test_a_soft_limit_is_the_first_reason() -> None:
    outcome = Outcome(verdict="cpu_limit", exit=Exit(signal=9), killed=True)
    assert "terminationreason=cputime-soft\n" in format_runexec(outcome, START, soft_limit_hit=True)


def test_a_run_that_never_was_has_no_other_result() -> None:
    outcome = Outcome(verdict="start_failed", error=StartError(stage="exec", errno=2, message="no"))
    assert format_runexec(outcome, START) == "terminationreason=failed\n"


@given(
    st.lists(
        st.one_of(
            st.sampled_from([f"--{name}" for name in LONG]), st.sampled_from(["1", "5s", "x", "--", "pids.max=1"]), st.text(max_size=4)
        )
    )
)
def test_every_command_line_is_read_or_refused(argv: list[str]) -> None:
    try:
        made = parse_runexec(argv)
    except ConfigError as error:
        assert len(error.problems) == 1
        return
    assert set(made.container_options) <= CONTAINER.keys()
