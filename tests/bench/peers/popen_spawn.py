# SPDX-License-Identifier: Apache-2.0
"""popen_spawn plain|pipes COUNT COMMAND: subprocess.Popen, one after the other."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.bench.peers.measure import WARM_SPAWNS, own_cpu, report_rate


def one(pipes: bool, command: str) -> None:
    """Spawn to reaped."""
    if pipes:
        subprocess.run([command], input=b"", capture_output=True, check=True)
    elif subprocess.Popen([command]).wait() != 0:
        raise SystemExit(f"{command} failed")


def main() -> None:
    """Run the contender."""
    pipes, count, command = sys.argv[1] == "pipes", int(sys.argv[2]), sys.argv[3]
    for _ in range(WARM_SPAWNS):
        one(pipes, command)
    cpu, begun = own_cpu(), time.monotonic()
    for _ in range(count):
        one(pipes, command)
    report_rate(count, cpu, begun)


main()
