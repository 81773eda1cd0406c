# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while one job runs synchronously: held back until nothing can be left behind."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SIGINT: Final = 2


class HeldInterrupt:
    """Owns Python's handling of SIGINT for a while: Ctrl-C is noted, and raised as KeyboardInterrupt at the end of the ``with``.

    Python raises KeyboardInterrupt between any two instructions, also between a clone and the line that
    would have remembered the child. Where SIGINT has another handler than Python's own, or on another thread
    than the main one, nothing is raised and so nothing held.
    """

    __slots__ = ("_held", "_noted", "_seen", "_wanted")

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._held = False
        self._noted = self._seen = 0

    def __enter__(self) -> HeldInterrupt:
        if self._wanted and _signal.getsignal(SIGINT) is _signal.default_int_handler:
            try:
                _signal.signal(SIGINT, self._note)
                self._held = True
            except ValueError:
                pass  # not the main thread
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            _signal.signal(SIGINT, _signal.default_int_handler)
        if self._noted:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self._noted += 1

    def came(self) -> bool:
        """Ctrl-C came since the last call."""
        before, self._seen = self._seen, self._noted
        return self._seen != before
