# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat TOOL ...``: another tool's command line, exit statuses and result format."""

from __future__ import annotations

from supervisor.cli.foreground import complain, print_text

TOOLS = {
    "isolate": "isolate (IOI): --init, --run and --cleanup a box; the meta file",
    "runexec": "BenchExec's runexec: key=value results",
    "timeout": "GNU timeout: a time limit on a command",
}
USAGE_STATUS = 2


def compat(argv: list[str]) -> int:
    """Run one tool's command line; returns its exit status, 2 for a tool that is not known."""
    tool, rest = (argv[0], argv[1:]) if argv else ("", [])
    if tool == "timeout":
        from supervisor.cli.compat.timeout import timeout

        return timeout(rest)
    if tool == "isolate":
        from supervisor.cli.compat.isolate import isolate

        return isolate(rest)
    if tool == "runexec":
        from supervisor.cli.compat.runexec import runexec

        return runexec(rest)
    if tool in ("--help", "-h", ""):
        lines = ["usage: ringfence compat TOOL [ARG...]", ""]
        lines += [f"  {name:<8} {text}" for name, text in TOOLS.items()]
        print_text("\n".join([*lines, "", "'ringfence compat TOOL --help' says more."]))
        return 0 if tool else USAGE_STATUS
    from supervisor.model.spelling import nearest

    complain(f"compat: unknown tool {tool[:60]!r}{nearest(tool, TOOLS)}; see 'ringfence compat --help'")
    return USAGE_STATUS
