# SPDX-License-Identifier: Apache-2.0
"""``ringfence doctor``: what this host can enforce, proven by running it."""

from __future__ import annotations

import sys

from supervisor.errors import SupervisorError
from supervisor.model.value import plain
from supervisor.runtime.doctor import FAILED, MISSING, Finding, examine

PARTIAL = 6
USAGE = """usage: ringfence doctor [--json] [--cgroup PATH]

exit status: 0 everything is proven, 6 something is missing, 1 something does not hold"""


def doctor(argv: list[str]) -> int:
    """Print one line a mechanism; returns 0, 1 or 6 (see USAGE), 2 for wrong usage."""
    if "--help" in argv or "-h" in argv:
        print(USAGE)
        return 0
    as_json = "--json" in argv
    rest = [word for word in argv if word != "--json"]
    cgroup = ""
    if len(rest) == 2 and rest[0] == "--cgroup":
        cgroup = rest[1]
    elif rest:
        print(f"ringfence doctor: unknown argument {rest[0][:60]!r}\n{USAGE}", file=sys.stderr)
        return 2
    findings = []
    try:
        for finding in examine(cgroup):
            findings.append(finding)
            if not as_json:
                _show(finding)
    except SupervisorError as error:
        print(f"ringfence: {error}", file=sys.stderr)
        return 1
    if as_json:
        import json

        print(json.dumps({"version": 1, "findings": plain(findings)}, indent=1))
    states = {finding.status for finding in findings}
    return 1 if FAILED in states else PARTIAL if MISSING in states else 0


def _show(finding: Finding) -> None:
    print(f"{finding.status:<8} {finding.name:<14} {finding.detail}", flush=True)
    if finding.remedy:
        print(f"{'':<23} to get it: {finding.remedy}")
