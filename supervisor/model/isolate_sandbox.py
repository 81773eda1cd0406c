# SPDX-License-Identifier: Apache-2.0
"""isolate's directory rules and network as a strict :class:`Sandbox`.

Strict shows the system's directories itself, read-only, with /dev, /proc and /tmp of its own, which is
what isolate's default rules ask for; binds say the rest. What strict cannot do is refused by name.
"""

from __future__ import annotations

from supervisor.errors import UnsupportedError
from supervisor.model.isolate_rules import dir_rules
from supervisor.model.sandbox import STRICT, Bind, Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from supervisor.model.isolate_options import IsolateOptions
    from supervisor.model.isolate_rules import DirRule

#: Options of a rule that a bind of ours cannot have, and why.
REFUSED: Final = {
    "fs": "file systems are the sandbox's own: proc, and tmpfs at /tmp and /dev/shm",
    "dev": "devices of the host are not shown",
    "noexec": "a bind cannot forbid to execute",
    "norec": "a bind shows what is mounted below it as well",
}


def isolate_sandbox(options: IsolateOptions, box: str, user: int, is_directory: Callable[[str], bool]) -> Sandbox:
    """The sandbox of one run in the box at ``box`` (what ``--init`` prints), seen inside as ``user``.

    ``is_directory`` answers for a path on the host (option ``maybe``). Temporary directories of rules lie below
    ``box`` and must be there. Raises :class:`UnsupportedError` naming the rule, :class:`ConfigError`.
    """
    shown = {rule.inside for rule in options.dirs}
    for rule in dir_rules([], True):
        if rule.inside not in shown and rule.inside != "lib64":
            raise UnsupportedError(f"--dir={rule.inside}=", "the sandbox always shows the system's directories, and /box must be there")
    binds = []
    for rule in options.dirs:
        if rule.default and rule.inside != "box":
            continue  # the sandbox has it already
        outside = _outside(rule, box)
        if "maybe" in rule.options and not is_directory(outside):
            continue
        binds.append(Bind(source=outside, target="/" + rule.inside, mode="rw" if "rw" in rule.options else "ro"))
    network = "host" if options.share_net else "loopback"
    return Sandbox(level=STRICT, network=network, bind=tuple(binds), uid=user, gid=user)


def _outside(rule: DirRule, box: str) -> str:
    for name in REFUSED:
        if name in rule.options:
            raise UnsupportedError(f"--dir={rule.inside}...:{name}", REFUSED[name])
    outside = rule.outside or ""
    return f"{box}/{outside[2:]}" if outside.startswith("./") else outside
