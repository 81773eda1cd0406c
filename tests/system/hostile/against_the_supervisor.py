# SPDX-License-Identifier: Apache-2.0
"""Scenarios 63 to 66: the supervisor dies, time jumps, jobs meet."""

from __future__ import annotations

from typing import Final

from scenario import Scenario

AGAINST_THE_SUPERVISOR: Final = (
    Scenario(
        number=63,
        play="supervisor_is_killed",
        does="the supervisor is ended by SIGKILL in the middle",
        by="process 1 reads the end of file on its socket; the next start sweeps the cgroup",
    ),
    Scenario(
        number=64,
        play="clock_is_stepped",
        does="the system clock jumps a day back and forth",
        verdicts=("wall_limit",),
        requires=("vm", "root"),
        alone=True,
        by="CLOCK_MONOTONIC only",
    ),
    Scenario(
        number=65,
        play="closes_early",
        does="two programs in a pipe, the reader closes early",
        verdicts=("signaled",),
        by="each its own verdict; the pipe closes with its last holder",
    ),
    Scenario(
        number=65, play="hangs", does="two programs in a pipe, one hangs", verdicts=("wall_limit",), by="each its own verdict and limits"
    ),
    Scenario(
        number=66,
        play="hundred_at_once",
        does="a hundred jobs at once, each with limits of its own",
        alone=True,
        by="a world and a cgroup for each",
    ),
)
