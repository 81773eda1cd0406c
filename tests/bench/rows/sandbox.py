# SPDX-License-Identifier: Apache-2.0
"""A sandboxed /bin/true, whole run: one after the other, and four at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, NotHere, Role, Section, Setting, peer

CHILD = "/bin/true"
#: All namespaces and a root from nothing, as strict has.
BWRAP = (
    "--unshare-all --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp"
).split()
NSJAIL = "-Q -Mo --disable_clone_newcgroup -R /usr -R /bin -R /lib -R /lib64 -T /tmp --".split()
MINIJAIL = "-U -m -M -v -p -e -l -N".split()


def sections(setting: Setting) -> list[Section]:
    """Budgets: against bubblewrap and nsjail one at a time, runs a second four at a time."""
    alone = _section("a sandboxed /bin/true, one at a time", 1, setting.count(300))
    alone.budgets = (Budget(True, "rate", 1.7, "bubblewrap --unshare-all"), Budget(True, "rate", 2.2, "nsjail"), Budget(False, "rate", 333))
    together = _section("a sandboxed /bin/true, four at a time", 4, setting.count(600))
    together.budgets = (Budget(True, "rate", 300), Budget(False, "rate", 600))
    return [alone, together]


def _section(title: str, in_flight: int, count: str) -> Section:
    section = Section(title, {"rate": Better.HIGHER})

    def tool(name: str, *arguments: str) -> Callable[[], tuple[str, ...]]:
        def make() -> tuple[str, ...]:
            path = shutil.which(name)
            if path is None:
                raise NotHere(f"{name} is not installed")
            return peer("tool_spawn", in_flight, count, path, *arguments, CHILD)

        return make

    section.add("C, namespaces and mounts only", lambda: (c_program("sandbox"), str(in_flight), count, CHILD), Role.LIMIT)
    section.add("ours", lambda: peer("ours_sandbox", "strict", in_flight, count, CHILD), Role.OURS)
    section.add("ours, basic", lambda: peer("ours_sandbox", "basic", in_flight, count, CHILD))
    section.add("ours, no sandbox", lambda: peer("ours_sandbox", "none", in_flight, count, CHILD))
    section.add("bubblewrap --unshare-all", tool("bwrap", *BWRAP))
    section.add("nsjail", tool("nsjail", *NSJAIL))
    section.add("minijail0", tool("minijail0", *MINIJAIL))
    section.add("unshare", tool("unshare", "-Urmpinuf", "--mount-proc"))
    return section
