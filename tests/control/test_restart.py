# SPDX-License-Identifier: Apache-2.0
"""Whether a service is started again: the table of systemd.service(5), and what we add to it."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from service_strategies import endings, exits, relaxed, service, specs

from supervisor.control.restart import is_clean, result_of, shall_restart
from supervisor.model.outcome import Exit, Outcome, Verdict
from supervisor.model.service import RESTARTS, SIGNALS, ServiceSpec
from supervisor.model.service_state import Ending, ServiceResult

#: systemd.service(5), table "Exit causes and the effect of the Restart= settings".
COLUMNS = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
TABLE = {
    "clean exit code or signal": (False, True, True, False, False, False, False),
    "unclean exit code": (False, True, False, True, False, False, False),
    "unclean signal": (False, True, False, True, True, True, False),
    "timeout": (False, True, False, True, True, False, False),
    "watchdog": (False, True, False, True, True, False, True),
}
CAUSES = {
    "clean exit code or signal": (Exit(code=0), ""),
    "unclean exit code": (Exit(code=3), ""),
    "unclean signal": (Exit(signal=signal.SIGSEGV), ""),
    "timeout": (Exit(signal=signal.SIGTERM), "timeout"),
    "watchdog": (Exit(signal=signal.SIGABRT, core=True), "watchdog"),
}


def ended(spec: ServiceSpec, how: Exit, cause: str = "", verdict: str = "") -> Ending:
    """The ending of a run whose main process ended like this."""
    plain = Verdict.OK if how.code == 0 else Verdict.NONZERO_EXIT if how.signal is None else Verdict.SIGNALED
    outcome = Outcome(verdict=verdict or plain, exit=how)
    return Ending(result=result_of(spec, outcome, cause), outcome=outcome)


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize(("policy", "column"), [(policy, column) for column, policy in enumerate(COLUMNS)])
def test_the_table_of_the_manual_page(row: str, policy: str, column: int) -> None:
    spec = service(restart=policy)
    how, cause = CAUSES[row]
    assert shall_restart(spec, ended(spec, how, cause)).again is TABLE[row][column]


def test_the_table_has_every_policy() -> None:
    assert set(COLUMNS) == set(RESTARTS)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"])
def test_four_signals_are_a_clean_end_except_for_a_oneshot_or_with_a_core(name: str) -> None:
    how = Exit(signal=SIGNALS[name])
    assert result_of(service(), ended(service(), how).outcome or Outcome(verdict="ok")) == ServiceResult.SUCCESS
    assert not is_clean(service(type="oneshot"), how)
    assert not is_clean(service(), Exit(signal=SIGNALS[name], core=True))


@pytest.mark.parametrize("number", range(1, 32))
def test_names_of_signals_have_the_numbers_of_this_system(number: int) -> None:
    assert SIGNALS[signal.Signals(number).name] == number


def test_success_exit_status_makes_codes_and_signals_clean() -> None:
    """``success_exit_status=[75, "SIGUSR1"]``, and 75 the code is not signal 75."""
    spec = service(success_exit_status=[75, "SIGUSR1"])
    assert is_clean(spec, Exit(code=75)) and is_clean(spec, Exit(signal=signal.SIGUSR1))
    assert not is_clean(spec, Exit(code=10)) and not is_clean(spec, Exit(signal=signal.SIGUSR2))


@given(specs, endings)
@relaxed
def test_prevented_beats_forced_and_both_beat_the_policy(spec: ServiceSpec, ending: Ending) -> None:
    again = shall_restart(spec, ending).again
    outcome = ending.outcome
    if ending.result in (ServiceResult.START_LIMIT_HIT, ServiceResult.DEPENDENCY):
        assert not again
        return
    if outcome is None:
        return
    prevented = any(_matches(status, outcome.exit) for status in spec.restart_prevent_exit_status)
    forced = any(_matches(status, outcome.exit) for status in spec.restart_force_exit_status)
    if prevented:
        assert not again
    elif forced:
        assert again


def _matches(status: int | str, how: Exit) -> bool:
    if isinstance(status, str):
        return how.signal is not None and signal.Signals(how.signal).name.removeprefix("SIG") == status.removeprefix("SIG")
    return how.signal is None and how.code == status


@given(endings)
@relaxed
def test_always_restarts_all_that_is_not_final_and_no_nothing(ending: Ending) -> None:
    final = ending.result in (ServiceResult.START_LIMIT_HIT, ServiceResult.DEPENDENCY)
    assert shall_restart(service(restart="always"), ending).again is not final
    assert not shall_restart(service(restart="no"), ending).again


@given(endings)
@relaxed
def test_the_policies_stand_in_order(ending: Ending) -> None:
    """Whatever a narrower policy restarts, the wider ones restart as well."""
    decided = {policy: shall_restart(service(restart=policy), ending).again for policy in RESTARTS}
    for narrow, wide in (
        ("on-watchdog", "on-abnormal"),
        ("on-abort", "on-abnormal"),
        ("on-abnormal", "on-failure"),
        ("on-failure", "always"),
    ):
        assert not decided[narrow] or decided[wide]
    assert not (decided["on-success"] and decided["on-failure"])


@pytest.mark.parametrize("verdict", sorted(Verdict.LIMITS))
def test_restart_on_limit_decides_about_broken_limits(verdict: str) -> None:
    """True restarts where the policy would not, False stops where it would, None leaves it to the policy."""
    how = Exit(signal=signal.SIGKILL)
    for policy in RESTARTS:
        yes, no = service(restart=policy, restart_on_limit=True), service(restart=policy, restart_on_limit=False)
        assert shall_restart(yes, ended(yes, how, verdict=verdict)).again
        assert not shall_restart(no, ended(no, how, verdict=verdict)).again
    assert shall_restart(service(restart="on-failure"), ended(service(), how, verdict=verdict)).again


@given(exits)
@relaxed
def test_a_stop_that_needed_force_is_a_timeout_and_one_that_did_not_is_clean(how: Exit) -> None:
    spec = service(kill_signal="SIGUSR1")
    result = ended(spec, how, "stop").result
    if how.signal == signal.SIGKILL:
        assert result == ServiceResult.TIMEOUT
    elif how.signal == signal.SIGUSR1 and not how.core:
        assert result == ServiceResult.SUCCESS
    assert result in ServiceResult.ALL


def test_an_out_of_memory_kill_has_systemds_word_whoever_ran_out() -> None:
    for verdict in (Verdict.MEMORY_LIMIT, Verdict.HOST_OOM):
        assert ended(service(), Exit(signal=9), verdict=verdict).result == ServiceResult.OOM_KILL
