# SPDX-License-Identifier: Apache-2.0
"""ours_syscalls PRESET COUNT JOBS PROGRAM...: the program's figures under a preset, and what the filter adds to a job's start."""

from __future__ import annotations

import sys
from statistics import median

from supervisor.model.outcome import Outcome
from supervisor.model.sandbox import Sandbox
from supervisor.model.spec import COLLECT, JobSpec
from supervisor.runtime.oneshot import Ground, run_spec
from tests.bench.peers.measure import own_cpu


def main() -> None:
    """Run the contender."""
    preset, jobs, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    sandbox = Sandbox(syscalls=preset)
    ground = Ground()

    def run(argv: list[str]) -> Outcome:
        return run_spec(JobSpec(argv=argv, stdout=COLLECT, sandbox=sandbox), ground)

    try:
        run(["/bin/true"])
        starts = [run(["/bin/true"]).usage.start_latency_ns or 0 for _ in range(jobs)]
        print(f"start {median(starts) / 1000:.1f} us")
        spent = own_cpu()
        print(run(program).stdout.decode(), end="")
        print(f"supervisor {(own_cpu() - spent) * 1000:.2f} ms")
    finally:
        ground.close()


main()
