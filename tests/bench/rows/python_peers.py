# SPDX-License-Identifier: Apache-2.0
"""Which Python peers this interpreter has."""

from __future__ import annotations

import importlib.util
import sys

from tests.bench.model import NotHere

PYTHON = tuple(sys.version_info[:2])


def installed(module: str) -> None:
    """Raises :class:`NotHere` when a package is not installed."""
    if importlib.util.find_spec(module) is None:
        raise NotHere(f"not installed (pip install {module})")


def pidfd_watcher() -> None:
    """Raises :class:`NotHere` where asyncio's pidfd watcher is already the default."""
    if PYTHON >= (3, 12):
        raise NotHere("is the default of this Python")


def threaded_watcher() -> None:
    """Raises :class:`NotHere` where asyncio's thread for each child cannot be chosen."""
    if PYTHON < (3, 12):
        raise NotHere("is the default of this Python")
    if PYTHON >= (3, 14):
        raise NotHere("cannot be chosen in this Python")
