# SPDX-License-Identifier: Apache-2.0
"""Structured logs: one logger tree, ``supervisor``, whose records carry job, service, cause and outcome as fields."""

from __future__ import annotations

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.model.outcome import Outcome

#: What a record may carry beside its message.
FIELDS: Final = ("service", "replica", "job", "cause", "outcome")

logging.getLogger("supervisor").addHandler(logging.NullHandler())  # a library is silent until somebody listens


def tell(
    logger: logging.Logger, level: int, message: str, *, service: str, replica: int, job: int, cause: str, outcome: Outcome | None
) -> None:
    """Log one event with its fields; ``job`` is 0 when there is none."""
    if logger.isEnabledFor(level):
        shown = None if outcome is None else outcome.verdict
        extra = {"service": service, "replica": replica, "job": job, "cause": cause, "outcome": shown, "full_outcome": outcome}
        logger.log(level, "%s: %s", service, message, extra=extra)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (ISO 8601, UTC), level, logger, message, and every field it carries.

    With ``outcomes=True`` the whole outcome is written (``outcome``) instead of its verdict alone.
    """

    def __init__(self, *, outcomes: bool = False) -> None:
        super().__init__()
        self._outcomes = outcomes

    def format(self, record: logging.LogRecord) -> str:
        import json  # only where logs are written as JSON

        made: dict[str, Any] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        made |= {name: found for name in FIELDS if (found := getattr(record, name, None)) not in (None, "")}
        outcome: Outcome | None = getattr(record, "full_outcome", None)
        if self._outcomes and outcome is not None:
            made["outcome"] = outcome.to_dict()
        if record.exc_info:
            made["exception"] = self.formatException(record.exc_info)
        return json.dumps(made, ensure_ascii=False, default=str)

    @staticmethod
    def _time(created: float) -> str:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
