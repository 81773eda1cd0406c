# SPDX-License-Identifier: Apache-2.0
"""A service's specification: systemd's names, every problem at once, no half-made value."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import relaxed

from supervisor.errors import ConfigError
from supervisor.model.check import ExecCheck, FdCheck, Health, HttpCheck, LogCheck, TcpCheck
from supervisor.model.service import Recovery, ServiceSpec, signal_number
from supervisor.model.service_state import ServiceState, combined_state
from supervisor.model.spec import COLLECT, PIPE, JobSpec
from supervisor.model.value import field_names, replace


def service(**given: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "web", "exec_start": ["serve", "--port", "80"], **given})


def problems(**given: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        service(**given)
    assert caught.value.source.startswith("service")
    return caught.value.problems


def test_nothing_but_a_name_and_a_command_is_needed_and_the_rest_is_systemds() -> None:
    """The defaults of systemd.service(5), systemd.unit(5) and systemd.kill(5)."""
    spec = service()
    assert (spec.type, spec.restart, spec.kill_mode) == ("simple", "no", "control-group")
    assert (spec.restart_sec, spec.timeout_start_sec, spec.timeout_stop_sec) == (0.1, 90, 90)
    assert (spec.start_limit_interval_sec, spec.start_limit_burst) == (10, 5)
    assert (spec.kill_signal, spec.watchdog_signal, spec.watchdog_sec) == (15, 6, 0)
    assert service(type="oneshot").timeout_start_sec == float("inf")
    assert service(type="oneshot", timeout_start_sec=5).timeout_start_sec == 5


def test_the_command_is_a_list_or_a_whole_specification() -> None:
    """Its stop is the service's: signal, mode, time."""
    job = service(kill_signal="SIGINT", timeout_stop_sec="1.5s", kill_mode="mixed").job
    assert (job.argv, job.kill_signal, job.kill_mode, job.kill_grace_ns) == (("serve", "--port", "80"), 2, "mixed", 1_500_000_000)
    given = JobSpec(argv=["serve"], nice=3)
    assert service(exec_start=given).job == replace(given, kill_mode="control-group", kill_grace_ns=90_000_000_000)


@pytest.mark.parametrize(("spelt", "seconds"), [("100ms", 0.1), (5, 5.0), ("1min 30s", 90.0), (0.25, 0.25)])
def test_durations_are_given_as_anywhere_else_and_kept_as_seconds(spelt: Any, seconds: float) -> None:
    spec = service(restart_sec=spelt, timeout_stop_sec=spelt, watchdog_sec=spelt)
    assert (spec.restart_sec, spec.timeout_stop_sec, spec.watchdog_sec) == (seconds,) * 3


def test_infinity_is_no_watchdog_and_no_timeout() -> None:
    assert service(watchdog_sec="infinity").watchdog_sec == 0
    assert service(timeout_start_sec="infinity").timeout_start_sec == float("inf")


def test_every_problem_is_told_at_once_and_says_its_key() -> None:
    """Fifteen mistakes, fifteen lines."""
    found = problems(
        name="a b",
        exec_start="serve --now",
        exec_start_pre=["true"],
        exec_stop=[],
        type="forking",
        restart="sometimes",
        restart_sec="soon",
        timeout_stop_sec="infinity",
        kill_signal="SIGNOTHING",
        success_exit_status=[256, "SIGFOO"],
        restart_steps=-1,
        replicas=True,
        requires=["c d"],
        after="db",
    )
    keys = [problem.partition(":")[0] for problem in found]
    assert keys == [
        "name",
        "exec_start",
        "exec_start_pre",
        "exec_stop",
        "type",
        "restart",
        "restart_sec",
        "timeout_stop_sec",
        "kill_signal",
        "success_exit_status",
        "success_exit_status",
        "restart_steps",
        "replicas",
        "requires",
        "after",
    ]


CONFLICTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "oneshot", "restart": "always"}, "restart"),
    ({"type": "oneshot", "watchdog_sec": 1}, "type"),
    ({"type": "oneshot", "ready": TcpCheck(port=80)}, "type"),
    ({"type": "notify", "ready": FdCheck()}, "ready"),
    ({"type": "notify", "notify_access": "none"}, "notify_access"),
    ({"watchdog_sec": 1, "notify_access": "none"}, "notify_access"),
    ({"ready": "soon"}, "ready"),
    ({"restart_steps": 3}, "restart_max_delay_sec"),
    ({"exec_start": JobSpec(argv=["serve"], stdout=PIPE)}, "exec_start"),
    ({"exec_start": JobSpec(argv=["serve"], stdout=COLLECT)}, "exec_start"),
    ({"requires": ["web"]}, "requires"),
]


@pytest.mark.parametrize(("given", "key"), CONFLICTS, ids=lambda item: item if isinstance(item, str) else ",".join(item))
def test_what_cannot_be_together_is_refused(given: dict[str, Any], key: str) -> None:
    assert [problem.partition(":")[0] for problem in problems(**given)] == [key]


@pytest.mark.parametrize("mode", ["process", "none"])
def test_kill_modes_that_leave_processes_behind_are_refused_with_the_reason(mode: str) -> None:
    assert "outlive" in problems(kill_mode=mode)[0]


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.text(max_size=3), max_size=3)
    | st.binary(max_size=4)
)


@given(
    st.dictionaries(
        st.sampled_from([name for name in field_names(ServiceSpec) if name not in ("health", "recovery")]), anything, max_size=6
    )
)
@relaxed
def test_whatever_a_file_may_hold_it_is_a_specification_or_a_config_error(given: dict[str, Any]) -> None:
    """And what was accepted is a value: equal to its copy, and normal: made again from its fields it is the same."""
    try:
        spec = service(**given)
    except ConfigError as error:
        assert all(problem for problem in error.problems)
        return
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert ServiceSpec(**{name: getattr(spec, name) for name in field_names(spec)}) == spec


@pytest.mark.parametrize(
    ("spelt", "number"), [("SIGTERM", 15), ("TERM", 15), (9, 9), ("sigterm", None), (0, None), (65, None), (True, None), (None, None)]
)
def test_signals_are_spelt_as_systemd_does(spelt: Any, number: int | None) -> None:
    assert signal_number(spelt) == number


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"start_retries": -1}, "recovery.start_retries"),
        ({"memory_factor": 0.5}, "recovery.memory_factor"),
        ({"memory_factor": float("nan")}, "recovery.memory_factor"),
        ({"memory_factor": 2}, "recovery.memory_ceiling"),
        ({"memory_factor": 2, "memory_ceiling": "a lot"}, "recovery.memory_ceiling"),
    ],
)
def test_recovery_says_what_is_wrong(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recovery(**given)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [key]


# checks


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://localhost", ("localhost", 80, "/")),
        ("http://127.0.0.1:8080/healthz?deep=1#top", ("127.0.0.1", 8080, "/healthz?deep=1")),
        ("http://[::1]:90/", ("::1", 90, "/")),
        ("http://host?x=1", ("host", 80, "/?x=1")),
    ],
)
def test_a_url_is_taken_apart(url: str, parts: tuple[str, int, str]) -> None:
    assert HttpCheck(url=url).parts() == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://a",
        "http://",
        "http://:80",
        "http://a:b",
        "http://a:70000",
        "http://a/ b",
        "http://a/\r\nX: y",
        "ftp://a",
        7,
        "http://a:-1",
        f"http://a:{9:05000}",
    ],
)
def test_a_url_that_cannot_be_asked_is_refused(url: Any) -> None:
    with pytest.raises(ConfigError, match="http"):
        HttpCheck(url=url)


@given(st.text(max_size=40))
@relaxed
def test_no_url_makes_a_request_of_two_lines(rest: str) -> None:
    """Whatever is accepted stays within one request line."""
    try:
        host, port, path = HttpCheck(url=f"http://{rest}").parts()
    except ConfigError:
        return
    assert path.startswith("/") and 1 <= port <= 65535 and host
    assert not any(character in host + path for character in " \r\n\0")


def test_checks_are_checked() -> None:
    for make in (
        lambda: TcpCheck(port=0),
        lambda: TcpCheck(port=80, host=""),
        lambda: ExecCheck(argv=[]),
        lambda: ExecCheck(argv="true"),
        lambda: LogCheck(pattern="("),
        lambda: LogCheck(pattern="\ud800"),
        lambda: Health(check=TcpCheck(port=1), interval_sec=0),
        lambda: Health(check=TcpCheck(port=1), retries=0),
        lambda: Health(check=TcpCheck(port=1), on_failure="panic"),
        lambda: Health(check=FdCheck()),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError):
            make()


# states


@given(st.lists(st.sampled_from(ServiceState.ALL), max_size=6))
def test_one_word_for_many_replicas(states: list[str]) -> None:
    """One of their own words; all alike is that word; nobody is inactive."""
    word = combined_state(states)
    assert word in (*states, ServiceState.INACTIVE)
    if len(set(states)) == 1:
        assert word == states[0]
    if word == ServiceState.ACTIVE:
        assert set(states) <= {ServiceState.ACTIVE, ServiceState.INACTIVE}
