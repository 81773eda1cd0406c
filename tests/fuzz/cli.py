# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.fuzz TARGET... [--seconds N] [--seed N]``; exit status 1 when something was found.

N seconds of processor time for each target. What is found is kept in ``tests/fuzz/finds/``; after the mend it belongs
into the corpus.
"""

from __future__ import annotations

import hashlib
import sys

from tests.fuzz.arguments import parse
from tests.fuzz.campaign import HERE, Found, campaign
from tests.fuzz.targets import TARGETS


def main(argv: list[str]) -> int:
    """Fuzz the targets named, or all."""
    given = parse("tests.fuzz", argv, TARGETS)
    failed = False
    for name in given.targets:
        print(f"{name}: {given.seconds:g} s, seed {given.seed}", file=sys.stderr, flush=True)
        report = campaign(name, given.seconds, given.seed)
        print(f"{name}: {report.inputs} inputs, {report.pool} different answers kept, slowest {report.slowest * 1000:.1f} ms", flush=True)
        if report.found is not None:
            failed = True
            print(f"{name}: FOUND {report.found.how[:300]}\n  kept as {_keep(name, report.found)}", flush=True)
    return 1 if failed else 0


def _keep(name: str, found: Found) -> str:
    folder = HERE / "finds" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(found.raw).hexdigest()[:16]
    path.write_bytes(found.raw)
    return str(path.relative_to(HERE.parents[1]))
