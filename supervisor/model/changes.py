# SPDX-License-Identifier: Apache-2.0
"""What a command did to its work directory: two looks round compared. Pure."""

from __future__ import annotations

from supervisor.model.transfer import json_name
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
CREATED: Final = "created"
MODIFIED: Final = "modified"
DELETED: Final = "deleted"


@value
class Seen:
    """One name as a look round saw it; ``stamp`` differs whenever its content or mode may have changed."""

    kind: str
    size_bytes: int
    stamp: tuple[int, ...] = ()


@value
class Look:
    """Every name below the work directory; ``complete`` is false when a cap ended the look round."""

    seen: Mapping[str, Seen] = {}
    complete: bool = True


@value
class FileChange:
    """One name that was ``created``, ``modified`` or ``deleted``, with its size after and before (``None``: not there)."""

    name: str
    change: str
    kind: str
    size_bytes: int | None = None
    before_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": json_name(self.name),
            "change": self.change,
            "kind": self.kind,
            "size_bytes": self.size_bytes,
            "before_bytes": self.before_bytes,
        }


def compare(before: Look, after: Look) -> tuple[FileChange, ...]:
    """The changes in order of names. A directory counts when it came or went, not when something in it did.

    Where a look was not complete, only names that both could have seen are told.
    """
    changes = []
    for name in sorted(before.seen.keys() | after.seen.keys()):
        old, new = before.seen.get(name), after.seen.get(name)
        if new is not None and old is None and before.complete:
            changes.append(FileChange(name=name, change=CREATED, kind=new.kind, size_bytes=new.size_bytes))
        elif old is not None and new is None and after.complete:
            changes.append(FileChange(name=name, change=DELETED, kind=old.kind, before_bytes=old.size_bytes))
        elif old is not None and new is not None and old != new and not old.kind == new.kind == DIRECTORY:
            changes.append(FileChange(name=name, change=MODIFIED, kind=new.kind, size_bytes=new.size_bytes, before_bytes=old.size_bytes))
    return tuple(changes)
