# SPDX-License-Identifier: Apache-2.0
"""The table of all scenarios, in the order of their numbers. docs/reference/hostile.md is made from it."""

from __future__ import annotations

from typing import Final

from against_isolation import AGAINST_ISOLATION
from against_limits import AGAINST_LIMITS
from against_the_supervisor import AGAINST_THE_SUPERVISOR
from scenario import Scenario

SCENARIOS: Final[tuple[Scenario, ...]] = (*AGAINST_LIMITS, *AGAINST_ISOLATION, *AGAINST_THE_SUPERVISOR)
COUNT: Final = 66
