# SPDX-License-Identifier: Apache-2.0
"""Two sources of a sandbox, a policy and whoever starts the job: neither is loosened."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.sandbox import LEVELS, NETWORKS, NO_SANDBOX, Sandbox, parse_sandbox
from supervisor.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

#: From the least strict: left out, used where there is one, insisted on.
_LANDLOCK: Final = (False, None, True)


def sandbox_for(policy: Sandbox | None, asked: Sandbox | str | Mapping[str, Any] | None) -> Sandbox:
    """The sandbox of a job under ``policy`` for whom ``asked`` was said as well.

    A table without a level is meant for the policy's. Raises :class:`ConfigError`.
    """
    if policy is None or policy == NO_SANDBOX:
        return parse_sandbox(asked)
    if asked is None:
        return policy
    if isinstance(asked, dict) and "level" not in asked:
        asked = {"level": policy.level, **asked}
    return stricter(policy, parse_sandbox(asked))


def stricter(a: Sandbox, b: Sandbox) -> Sandbox:
    """Both at once: the stricter level, the lesser network, the smaller sizes, every denial.

    Binds and overlays of both are there: they say what the job works on. Where both name one target, the
    entry of the side with the stricter level counts, of ``a`` when the levels are the same. Raises
    :class:`ConfigError` for two presets of system calls of which nobody can say which is stricter.
    """
    if LEVELS.index(a.level) < LEVELS.index(b.level):
        a, b = b, a
    taken = {place.target for place in (*a.bind, *a.overlay)}
    return replace(
        a,
        network=min(a.network, b.network, key=NETWORKS.index),
        bind=(*a.bind, *(bind for bind in b.bind if bind.target not in taken)),
        overlay=(*a.overlay, *(overlay for overlay in b.overlay if overlay.target not in taken)),
        tmp_size=min(a.tmp_size, b.tmp_size),
        tmp_inodes=min(a.tmp_inodes, b.tmp_inodes),
        shm_size=min(a.shm_size, b.shm_size),
        syscalls=_filter(a.syscalls, b.syscalls),
        syscalls_kill=a.syscalls_kill or b.syscalls_kill,
        landlock=max(a.landlock, b.landlock, key=_LANDLOCK.index),
        clear_env=a.clear_env or b.clear_env,
        keep_env=tuple([name for name in a.keep_env if name in b.keep_env]) if a.clear_env and b.clear_env else a.keep_env or b.keep_env,
        private_tmp=a.private_tmp or b.private_tmp,
        syscalls_allow=tuple([name for name in a.syscalls_allow if name in b.syscalls_allow]),
        syscalls_deny=tuple(dict.fromkeys((*a.syscalls_deny, *b.syscalls_deny))),
    )


def _filter(a: str, b: str) -> str:
    """The stricter preset: each is stricter than ``default``, and that is stricter than ``none``."""
    presets = {a, b} - {"none", "default"}
    if len(presets) > 1:
        raise ConfigError(f"sandbox: syscalls: the presets {a} and {b} do not combine; extend the profile and choose one there")
    return next(iter(presets), "default" if "default" in (a, b) else "none")
