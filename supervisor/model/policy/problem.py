# SPDX-License-Identifier: Apache-2.0
"""Problem: one thing wrong in a policy file, where it stands, and what to do."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.spelling import visible
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


@value
class Problem:
    """``line`` counts from 1 and is 0 when the whole file is meant; ``key`` is empty for what is no key's fault."""

    file: str
    line: int = 0
    key: str = ""
    message: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return visible(f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}")


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each once, by file and line."""
    return tuple(sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.key, problem.message)))


def refuse(problems: Iterable[Problem]) -> ConfigError:
    """The error that carries these problems, in order of file and line."""
    ordered = in_order(problems)
    sources = {problem.file for problem in ordered}
    error = ConfigError(*map(str, ordered))
    error.source = sources.pop() if len(sources) == 1 else ""
    return error
