# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.outcome`` claims: the JSON document of section 3.2, and one exit status for every end."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import relaxed

from supervisor.model.outcome import Exit, Outcome, StartError, Usage, Verdict

# section 3.2 of the contract, word for word
CONTRACT: dict[str, Any] = json.loads("""
{"version": 1, "verdict": "memory_limit", "exit": {"code": null, "signal": 9, "core": false}, "killed": true, "limits_hit": ["memory_max"],
 "usage": {"cpu_ns": 0, "cpu_user_ns": 0, "cpu_system_ns": 0, "wall_ns": 0,
           "memory_peak_bytes": 0, "memory_anon_bytes": null, "memory_file_bytes": null, "swap_peak_bytes": null, "rss_peak_main_bytes": 0,
           "tasks_peak": 0, "io_read_bytes": null, "io_write_bytes": null, "throttled_ns": null, "pressure": {},
           "stdout_bytes": 0, "stderr_bytes": 0, "start_latency_ns": 0},
 "sources": {"cpu_ns": "cgroup cpu.stat", "memory_peak_bytes": "cgroup memory.peak"}, "enforcement": {"memory_max": "cgroup memory.max"},
 "warnings": [], "error": null}
""")
VERDICTS = [
    "ok",
    "nonzero_exit",
    "signaled",
    "cpu_limit",
    "wall_limit",
    "idle_limit",
    "memory_limit",
    "tasks_limit",
    "output_limit",
    "disk_limit",
    "file_size_limit",
    "syscall_denied",
    "cancelled",
    "start_failed",
    "host_oom",
    "sandbox_error",
]
ADDED = ["denied_syscalls", "changes"]  # what we add to the contract's document
WIDENED = {"context_switches_voluntary", "context_switches_involuntary", "paused_ns"}  # what we add to the contract's usage


def example() -> Outcome:
    """The contract's own example."""
    zeros = {name: amount for name, amount in CONTRACT["usage"].items() if amount == 0}
    return Outcome(
        verdict=Verdict.MEMORY_LIMIT,
        exit=Exit(signal=9),
        killed=True,
        limits_hit=("memory_max",),
        usage=Usage(**zeros),
        sources=CONTRACT["sources"],
        enforcement=CONTRACT["enforcement"],
    )


def test_the_document_is_the_contracts() -> None:
    document = json.loads(json.dumps(example().to_dict()))
    document["usage"] = {name: amount for name, amount in document["usage"].items() if name not in WIDENED}
    assert document == {**CONTRACT, "denied_syscalls": {}, "changes": None}
    assert list(document) == [*CONTRACT, *ADDED]
    assert list(document["usage"]) == list(CONTRACT["usage"])


def test_usage_holds_the_contracts_fields_and_the_documented_additions() -> None:
    assert set(Outcome(verdict=Verdict.OK).to_dict()["usage"]) == set(CONTRACT["usage"]) | WIDENED


def test_the_verdicts_are_the_contracts() -> None:
    assert list(Verdict.ALL) == VERDICTS


def test_unknown_usage_is_null_and_never_0() -> None:
    outcome = Outcome(verdict=Verdict.OK).to_dict()
    known = {name: amount for name, amount in outcome["usage"].items() if amount is not None}
    assert known == {"paused_ns": 0, "pressure": {}}
    assert outcome["sources"] == {}
    assert outcome["exit"] == {"code": None, "signal": None, "core": False}


def test_a_failed_start_carries_its_step_its_errno_and_a_message() -> None:
    outcome = Outcome(verdict=Verdict.START_FAILED, error=StartError(stage="exec", errno=2, message="no such file"))
    assert outcome.to_dict()["error"] == {"stage": "exec", "errno": 2, "message": "no such file"}


def test_streams_are_in_the_document_only_when_asked_for() -> None:
    outcome = Outcome(verdict=Verdict.OK, stdout=b"out", stderr=None, truncated=True)
    assert list(outcome.to_dict()) == [*CONTRACT, *ADDED]
    document = outcome.to_dict(streams=True)
    assert list(document) == [*CONTRACT, *ADDED, "stdout", "stderr", "truncated"]
    assert (document["stdout"], document["stderr"], document["truncated"]) == ("out", None, True)


@relaxed
@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_a_captured_stream_is_text_or_base64_and_either_gives_back_every_byte(raw: bytes) -> None:
    document = json.loads(json.dumps(Outcome(verdict=Verdict.OK, stdout=raw).to_dict(streams=True)))
    shown = document["stdout"]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        assert list(shown) == ["base64"]
        assert base64.b64decode(shown["base64"], validate=True) == raw
    else:
        assert shown == text


def test_text_that_was_decoded_already_is_kept() -> None:
    assert Outcome(verdict=Verdict.OK, stdout="text").to_dict(streams=True)["stdout"] == "text"


# exit status

LIMITS = [
    "cpu_limit",
    "wall_limit",
    "idle_limit",
    "memory_limit",
    "tasks_limit",
    "output_limit",
    "disk_limit",
    "file_size_limit",
    "syscall_denied",
]


def status(verdict: str, exit: Exit = Exit(), error: StartError | None = None) -> int:
    return Outcome(verdict=verdict, exit=exit, error=error).exit_status()


def test_exit_status_is_the_commands_own() -> None:
    codes = list(range(256))
    assert [status(Verdict.OK if code == 0 else Verdict.NONZERO_EXIT, Exit(code=code)) for code in codes] == codes


def test_exit_status_is_128_and_the_signal_when_one_of_its_own_ended_it() -> None:
    signals = range(1, 65)
    assert [status(Verdict.SIGNALED, Exit(signal=signal)) for signal in signals] == [128 + signal for signal in signals]


@pytest.mark.parametrize("verdict", LIMITS)
@pytest.mark.parametrize("end", [Exit(code=0), Exit(code=3), Exit(signal=9)])
def test_exit_status_is_124_when_a_limit_ended_it(verdict: str, end: Exit) -> None:
    assert status(verdict, end) == 124


def test_the_verdicts_of_limits_are_these() -> None:
    assert sorted(Verdict.LIMITS) == sorted(LIMITS)


@pytest.mark.parametrize(
    ("stage", "errno", "expected"),
    [
        ("exec", 2, 127),  # ENOENT
        ("exec", 20, 127),  # ENOTDIR
        ("exec", 13, 126),  # EACCES
        ("exec", 8, 126),  # ENOEXEC
        ("exec", 7, 126),  # E2BIG
        ("working_directory", 2, 125),
        ("rlimit", 1, 125),
        ("clone", 11, 125),
        ("cgroup_write", 13, 125),
    ],
)
def test_exit_status_of_what_did_not_start(stage: str, errno: int, expected: int) -> None:
    assert status(Verdict.START_FAILED, error=StartError(stage=stage, errno=errno, message="why")) == expected


def test_exit_status_is_125_when_we_failed() -> None:
    assert status(Verdict.START_FAILED) == 125
    assert status(Verdict.SANDBOX_ERROR, Exit(code=0)) == 125
    assert status(Verdict.SANDBOX_ERROR) == 125


@pytest.mark.parametrize(
    ("verdict", "end", "expected"), [("cancelled", Exit(signal=15), 143), ("cancelled", Exit(code=0), 0), ("host_oom", Exit(signal=9), 137)]
)
def test_exit_status_of_a_job_that_others_ended_is_how_it_ended(verdict: str, end: Exit, expected: int) -> None:
    assert status(verdict, end) == expected


@relaxed
@given(st.sampled_from(VERDICTS), st.none() | st.integers(0, 255), st.none() | st.integers(1, 64))
def test_exit_status_is_a_status_for_any_outcome(verdict: str, code: int | None, signal: int | None) -> None:
    end = Exit(signal=signal) if signal is not None else Exit(code=code)
    assert 0 <= status(verdict, end) <= 255
    assert status(verdict, end) != 0 or (verdict not in LIMITS and code == 0)


# for people and for subprocess's users


def test_returncode_is_subprocess_s() -> None:
    assert Outcome(verdict=Verdict.NONZERO_EXIT, exit=Exit(code=3)).returncode == 3
    assert Outcome(verdict=Verdict.SIGNALED, exit=Exit(signal=9)).returncode == -9
    assert Outcome(verdict=Verdict.START_FAILED).returncode is None


@pytest.mark.parametrize("verdict", VERDICTS)
def test_ok_is_the_one_good_verdict(verdict: str) -> None:
    assert Outcome(verdict=verdict).ok == (verdict == "ok")


def test_the_summary_is_one_line_with_the_verdict_first() -> None:
    assert example().summary() == "memory_limit (memory_max) signal 9 cpu 0 s wall 0 s memory 0 B"
    assert Outcome(verdict=Verdict.NONZERO_EXIT, exit=Exit(code=3)).summary() == "nonzero_exit exit 3"
    assert Outcome(verdict=Verdict.SIGNALED, exit=Exit(signal=11, core=True)).summary() == "signaled signal 11, core dumped"
    assert (
        Outcome(verdict=Verdict.START_FAILED, error=StartError(stage="exec", errno=2, message="no such file")).summary()
        == "start_failed: no such file"
    )
