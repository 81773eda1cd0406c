# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.stress [ACTOR...] [--seconds N] [--seed N]``; exit status 1 when a claim does not hold.

The same seed makes the same choices in every actor and of the killer; when the processes run is the kernel's choice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Callable

from tests.stress.actors import ACTORS
from tests.stress.campaign import campaign, memory_kib, words
from tests.stress.ground import BOUND_SECONDS


def main(argv: list[str]) -> int:
    """Stress the supervisor by the actors named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress")
    parser.add_argument("actors", nargs="*", metavar="ACTOR", help=f"some of: {', '.join(ACTORS)} (all)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", default=None, help="the same seed makes the same choices (the time)")
    parser.add_argument("--round", type=float, default=10, help="seconds between two looks at what is left (10)")
    parser.add_argument("--bound", type=float, default=BOUND_SECONDS, help=f"seconds that anything may take ({BOUND_SECONDS:g})")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="whose event loop (asyncio)")
    given = parser.parse_args(argv)
    unknown = [name for name in given.actors if name not in ACTORS]
    if unknown:
        parser.error(f"unknown actor {unknown[0]}; there are {', '.join(ACTORS)}")
    seed = given.seed or str(time.time_ns())
    print(f"seed {seed}", flush=True)
    before = memory_kib()
    try:
        report = campaign(
            given.seconds, seed, given.actors, round_seconds=given.round, bound=given.bound, say=_say, loop_factory=_loop_of(given.loop)
        )
    except Exception:
        traceback.print_exc()
        print(f"BROKEN with seed {seed}", flush=True)
        return 1
    print("\n".join(words(report, before)))
    return 0


def _loop_of(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
