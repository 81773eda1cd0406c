# SPDX-License-Identifier: Apache-2.0
"""Service specifications and endings of every kind, for the deciders' tests."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from supervisor.model.outcome import Exit, Outcome, Verdict
from supervisor.model.service import RESTARTS, ServiceSpec
from supervisor.model.service_state import Ending, ServiceResult

relaxed = settings(deadline=None)  # a busy machine is not a failure
S, MS = 10**9, 10**6

statuses = st.lists(st.integers(0, 255) | st.sampled_from(["SIGTERM", "SIGKILL", "SIGUSR1", "ABRT"]), max_size=3)
exits = st.builds(lambda code: Exit(code=code), st.integers(0, 255)) | st.builds(
    lambda signal, core: Exit(signal=signal, core=core), st.integers(1, 31), st.booleans()
)
#: Verdicts of a program that ran and ended by itself are tied to its exit.
outcomes = st.builds(lambda verdict, ended: Outcome(verdict=verdict, exit=ended), st.sampled_from(Verdict.ALL), exits)
endings = st.builds(
    lambda result, outcome: Ending(result=result, outcome=outcome), st.sampled_from(ServiceResult.ALL), st.none() | outcomes
)


def service(**given: Any) -> ServiceSpec:
    """A specification that says nothing but what is given."""
    return ServiceSpec(**{"name": "web", "exec_start": ["serve"], **given})


specs = st.builds(
    lambda restart, prevent, force, on_limit: service(
        restart=restart, restart_prevent_exit_status=prevent, restart_force_exit_status=force, restart_on_limit=on_limit
    ),
    st.sampled_from(RESTARTS),
    statuses,
    statuses,
    st.none() | st.booleans(),
)
