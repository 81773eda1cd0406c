# SPDX-License-Identifier: Apache-2.0
"""Given: one value of a profile and where it was written."""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@value
class Origin:
    """The place of one key: the file as it was named, its line, and the profile it stands in."""

    file: str
    line: int
    profile: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@value
class Given:
    """A value that has been read and found right, with its origin."""

    amount: Any
    origin: Origin
