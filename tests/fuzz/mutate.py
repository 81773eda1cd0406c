# SPDX-License-Identifier: Apache-2.0
"""Mutations: a new input from one or two known ones and a few words, the same for the same random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

LONGEST = 1 << 16


def mutate(rng: random.Random, pool: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One to eight small changes of an input from ``pool``."""
    made = bytearray(rng.choice(pool))
    for _ in range(1 << rng.randrange(4)):
        _change(rng, made, pool, words)
    return bytes(made[:LONGEST])


def _change(rng: random.Random, made: bytearray, pool: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = rng.randrange(len(made) + 1)
    end = min(len(made), at + rng.randrange(1, 33))
    kind = rng.randrange(9)
    if kind == 0 and at < len(made):
        made[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        made[at:at] = bytes([rng.randrange(256)])
    elif kind == 2:
        del made[at:end]
    elif kind == 3:
        made[at:at] = made[at:end] * rng.choice((1, 1, 2, 7, 300))
    elif kind in (4, 5):
        made[at : rng.choice((at, end))] = rng.choice(words)
    elif kind == 6:  # a piece of another input
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        made[at:at] = other[start : start + rng.randrange(1, 200)]
    elif kind == 7:  # a whole line goes elsewhere
        lines = bytes(made).split(b"\n")
        line = lines.pop(rng.randrange(len(lines)))
        lines.insert(rng.randrange(len(lines) + 1), line)
        made[:] = b"\n".join(lines)
    else:  # another number
        digits = [n for n in range(len(made)) if 48 <= made[n] < 58]
        if digits:
            n = rng.choice(digits)
            made[n : n + 1] = rng.choice((b"0", b"1", b"-1", b"9" * 30, b"0.5", b"1e9"))
