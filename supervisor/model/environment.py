# SPDX-License-Identifier: Apache-2.0
"""An environment that is the supervisor's own with something added: under a sandbox only what was added goes along."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class OwnEnvironment(dict[str, str]):
    """All variables of the supervisor and, over them, ``added``.

    Given to a job with a clean environment it stands for ``added`` alone: nobody meant to hand the
    supervisor's secrets to a sandbox by handing it a channel.
    """

    def __init__(self, own: Mapping[str, str], added: Mapping[str, str]) -> None:
        super().__init__({**own, **added})
        self.added = dict(added)
