# SPDX-License-Identifier: Apache-2.0
"""Policy: one profile with everything it extends, ready for a job."""

from __future__ import annotations

from supervisor.model.limits import Limits
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.model.policy.adaptive import Bounds
    from supervisor.model.policy.given import Origin
    from supervisor.model.sandbox import Sandbox


@value
class Policy:
    """What a job may use and see, under a name.

    ``sandbox`` is None when no profile of the chain says anything about one. ``adaptive``: the bounds inside which
    a limit may be moved. ``origins``: where each value was written, by its key (``memory_max``,
    ``sandbox.level``, ``adaptive.memory_high``, ``best_effort.io_weight``). ``chain``: the profile and what it extends,
    each as ``FILE#NAME``; ``files``: the files of the chain, which a watch looks at.
    """

    name: str = ""
    description: str = ""
    limits: Limits = Limits()
    best_effort: frozenset[str] = frozenset()
    sandbox: Sandbox | None = None
    adaptive: Mapping[str, Bounds] = {}
    origins: Mapping[str, Origin] = {}
    chain: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
