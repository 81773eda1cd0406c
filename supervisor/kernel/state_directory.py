# SPDX-License-Identifier: Apache-2.0
"""Where what must outlive a command is kept."""

from __future__ import annotations

import os

SYSTEM = "/var/lib/ringfence"


def state_directory() -> str:
    """RINGFENCE_STATE; else root's is /var/lib/ringfence and a user's below XDG_STATE_HOME (basedir-spec 0.8)."""
    given = os.environ.get("RINGFENCE_STATE", "")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return SYSTEM
    own = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(own if os.path.isabs(own) else os.path.expanduser("~/.local/state"), "ringfence")
