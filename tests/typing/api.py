# SPDX-License-Identifier: Apache-2.0
"""Uses of the public API as section 3.3 of the contract shows them: type-checked with ``mypy --strict``, never run.

A line with ``# type: ignore[...]`` must be wrong: the checker complains about an ignore that is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_type

import supervisor
from supervisor import (
    BusyError,
    CgroupError,
    ClosedError,
    ConfigError,
    InternalError,
    JobFailed,
    JobSpec,
    Limits,
    Outcome,
    SpawnError,
    SupervisorError,
    UnsupportedError,
    Usage,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def policies() -> None:
    policy = supervisor.load_policy("judge")
    assert_type(policy, supervisor.Policy)
    assert_type(policy.limits, Limits)
    supervisor.run(["true"], policy=policy)
    supervisor.run(["true"], policy="judge")


async def watching() -> None:
    async with supervisor.Supervisor() as sup, supervisor.PolicyWatch("judge") as watch:
        job = await sup.start(["true"], policy=watch.policy)
        watch.attach(job, Limits(tasks_max=5))
        async for change in watch:
            assert_type(change.problems, tuple[str, ...])


def limits() -> None:
    made = Limits(memory_max="256M", cpu_time_max="2s", tasks_max=64, cpu_quota="50%", limit_nofile="512:1024")
    assert_type(made, Limits)
    assert_type(made.given(), dict[str, Any])
    Limits(wall_time_max=timedelta(seconds=1), idle_time_max=1.5, allowed_cpus=[0, 1], io_read_bandwidth_max={"/dev/sda": "10M"})
    Limits(memory_mux=1)  # type: ignore[call-arg]
    Limits("256M")  # type: ignore[call-arg]
    made.memory_max = 1  # type: ignore[misc]


def specification() -> None:
    spec = JobSpec(
        argv=("python3", b"job.py"),
        env={"A": "1"},
        working_directory="/srv",
        input=b"",
        stdout=supervisor.PIPE,
        stderr=supervisor.STDOUT,
        limits=Limits(),
        best_effort=frozenset({"io_weight"}),
        kill_grace_ns=0,
        preexec=(print,),
    )
    assert_type(spec.argv, Sequence[str | bytes])
    assert_type(spec.stdin, int | None)
    assert_type(spec.limits, Limits)
    JobSpec()  # type: ignore[call-arg]
    JobSpec(argv=("true",), umask="022")  # type: ignore[arg-type]
    spec.argv = ()  # type: ignore[misc]


def outcome_of(outcome: Outcome) -> None:
    assert_type(outcome.verdict, str)
    assert_type(outcome.verdict == Verdict.MEMORY_LIMIT, bool)
    verdicts: tuple[str, ...] = Verdict.ALL
    assert_type(verdicts, tuple[str, ...])
    assert_type(outcome.ok, bool)
    assert_type(outcome.returncode, int | None)
    assert_type(outcome.exit.code, int | None)
    assert_type(outcome.exit.signal, int | None)
    assert_type(outcome.exit.core, bool)
    assert_type(outcome.killed, bool)
    assert_type(outcome.limits_hit, tuple[str, ...])
    assert_type(outcome.exit_status(), int)
    assert_type(outcome.summary(), str)
    assert_type(outcome.to_dict(streams=True), dict[str, Any])
    mechanisms: Mapping[str, str] = outcome.enforcement
    assert_type(mechanisms["memory_max"], str)
    if outcome.error is not None:
        assert_type(outcome.error.stage, str)
        assert_type(outcome.error.errno, int)
        assert_type(outcome.error.message, str)
    outcome.verdict = Verdict.OK  # type: ignore[misc]
    outcome.nosuch  # type: ignore[attr-defined]  # noqa: B018 - the checker must object


def usage_of(usage: Usage) -> int:
    assert_type(usage.cpu_ns, int | None)
    assert_type(usage.memory_peak_bytes, int | None)
    assert_type(usage.pressure["memory"]["some"], int)
    return usage.cpu_ns  # type: ignore[return-value]  # unknown is None, so it must be looked at first


def run_a_command() -> None:
    outcome = supervisor.run(
        ["python3", "job.py"],
        limits=Limits(memory_max="256M", cpu_time_max="2s"),
        input=b"...",
        capture_output=True,
        check=True,
        text=False,
    )
    assert_type(outcome, Outcome)


def errors() -> None:
    try:
        run_a_command()
    except JobFailed as failed:
        assert_type(failed.outcome, Outcome)
    except ConfigError as wrong:
        assert_type(wrong.problems, tuple[str, ...])
        assert_type(wrong.source, str)
        also_a: ValueError = wrong
        raise also_a from None
    except UnsupportedError as refused:
        assert_type(refused.feature, str)
        assert_type(refused.missing, str)
    except SpawnError as failure:
        assert_type(failure.stage, str)
        assert_type(failure.index, int)
        assert_type(failure.errno, int | None)
    except CgroupError as failure:
        assert_type(failure.operation, str)
    except (ClosedError, BusyError, InternalError) as other:
        root: SupervisorError = other
        raise root from None
