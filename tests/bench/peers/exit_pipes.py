# SPDX-License-Identifier: Apache-2.0
"""The pipes to and from c/exit_child.c."""

from __future__ import annotations

import os


class ExitPipes:
    """Owns both pipes: its ends for the child until :meth:`started`, ours until :meth:`close`."""

    def __init__(self) -> None:
        self.child_in, self.tell = os.pipe()
        self.hear, self.child_out = os.pipe()

    def started(self) -> None:
        """The child has its ends: close ours of them, and wait until it says it is ready."""
        os.close(self.child_in)
        os.close(self.child_out)
        os.read(self.hear, 1)

    def close(self) -> None:
        """Close our ends."""
        os.close(self.tell)
        os.close(self.hear)
