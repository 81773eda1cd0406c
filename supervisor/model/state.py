# SPDX-License-Identifier: Apache-2.0
"""JobState: where a job is in its life; ``job.state`` holds one of these texts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class JobState:
    """``starting`` → ``running`` ⇄ ``paused`` → ``stopping`` → ``terminated``, or ``failed``: it never ran, or its end is not known."""

    STARTING: Final = "starting"
    RUNNING: Final = "running"
    PAUSED: Final = "paused"
    STOPPING: Final = "stopping"
    TERMINATED: Final = "terminated"
    FAILED: Final = "failed"

    ALL: Final = (STARTING, RUNNING, PAUSED, STOPPING, TERMINATED, FAILED)
