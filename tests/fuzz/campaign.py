# SPDX-License-Identifier: Apache-2.0
"""One campaign: a target runs on mutations of its corpus until the time is over or something is found.

Blind to the code it runs, but not to its answers: an input whose answer (the exception's words without what was
quoted, or that there was none) is new joins the pool, so that mutations go on from where the parser got to.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
#: Processor time one input may take; the largest the harness makes are 64 KiB.
SECONDS_EACH = 2.0
POOL_MAX = 5_000
SAID_AGAIN = re.compile(r"['\"\d].*?(?=: |; |$)", re.DOTALL)


class Found(NamedTuple):
    """An input that broke the property, and how."""

    raw: bytes
    how: str


class Report(NamedTuple):
    """What a campaign did."""

    target: str
    inputs: int
    pool: int
    slowest: float
    found: Found | None


class TooSlow(Exception):
    """The target was still at it when its time was over."""


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a target, and an empty one."""
    return [b"", *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes more processor time of this process than ``seconds``."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_one(target: Target, raw: bytes) -> str:
    """What the target answers to ``raw``, in words that do not repeat the input. Raises what is no answer."""
    try:
        with time_limit(SECONDS_EACH):
            said = str(target.run(raw) or "")
    except target.answers as answer:
        said = f"{type(answer).__name__}: {answer}"
    return SAID_AGAIN.sub("?", said)[:200]


def campaign(name: str, seconds: float, seed: int, inputs_max: int = 0) -> Report:
    """Fuzz one target; ends early at the first find, or after ``inputs_max`` inputs when that is not 0."""
    target, rng = TARGETS[name], random.Random(seed)
    pool = corpus(name)
    answers = set()
    count, slowest = 0, 0.0
    for raw in _inputs(rng, pool, target):
        begun = time.process_time()
        try:
            answer = try_one(target, raw)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return Report(name, count, len(pool), slowest, Found(raw, f"{type(error).__name__}: {error}"))
        took = time.process_time() - begun
        slowest = max(slowest, took)
        count += 1
        if answer not in answers:
            answers.add(answer)
            if len(pool) < POOL_MAX:
                pool.append(raw)
        seconds -= took
        if seconds <= 0 or count == inputs_max:
            break
    return Report(name, count, len(pool), slowest, None)


def _inputs(rng: random.Random, pool: list[bytes], target: Target) -> Iterator[bytes]:
    yield from tuple(pool)
    while True:
        yield mutate(rng, pool, target.words)
