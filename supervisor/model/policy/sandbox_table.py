# SPDX-License-Identifier: Apache-2.0
"""The ``[profile.NAME.sandbox]`` table: which key each problem of a sandbox belongs to."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.sandbox import Sandbox, parse_sandbox
from supervisor.model.value import field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Final

SANDBOX_KEYS: Final = field_names(Sandbox)


def sandbox_problems(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and message of everything wrong in the table of known keys.

    Without a level it is judged as a strict one, which may have every key: what is inherited is not known yet.
    """
    try:
        parse_sandbox({"level": "strict", **table})
    except ConfigError as error:
        for problem in error.problems:
            text = problem.removeprefix("sandbox: ")
            key = next((key for key in SANDBOX_KEYS if text.startswith((f"{key}:", f"{key} "))), "level")
            yield key, text.removeprefix(f"{key}: ")
