# SPDX-License-Identifier: Apache-2.0
"""The command line that all fuzzers share: targets, processor time, seed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Arguments(NamedTuple):
    """What to fuzz, for how much processor time each, from which seed."""

    targets: tuple[str, ...]
    seconds: float
    seed: int


def parse(program: str, argv: Sequence[str], known: Iterable[str]) -> Arguments:
    """``known``: the targets there are, all of them when none is named. Exits with a usage message when one is unknown."""
    known = tuple(known)
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of: {', '.join(known)} (all)")
    parser.add_argument("--seconds", type=float, default=60, help="processor time for each target (60)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same inputs (the time)")
    given = parser.parse_args(argv)
    unknown = [name for name in given.targets if name not in known]
    if unknown:
        parser.error(f"unknown target {unknown[0]}; there are {', '.join(known)}")
    return Arguments(tuple(given.targets) or known, given.seconds, time.time_ns() if given.seed is None else given.seed)
