# SPDX-License-Identifier: Apache-2.0
"""Real work: three computations in plain Python whose results are known.

Prints one JSON object: primes (how many lie below 2,000,000: 148933), energy (of the n-body problem of the
Computer Language Benchmarks Game after 100,000 steps: -0.169079859, from -0.169075164 at first) and
hilbert (the sum of the inverse of the 16 x 16 Hilbert matrix, exactly: 16 * 16).
"""

from __future__ import annotations

import json
import math
from fractions import Fraction

SUN = 4 * math.pi * math.pi
YEAR = 365.24
#: position, velocity (per day) and mass (of the sun) of Jupiter, Saturn, Uranus and Neptune
PLANETS = (
    (4.84143144246472090e00, -1.16032004402742839e00, -1.03622044471123109e-01),
    (1.66007664274403694e-03, 7.69901118419740425e-03, -6.90460016972063023e-05, 9.54791938424326609e-04),
    (8.34336671824457987e00, 4.12479856412430479e00, -4.03523417114321381e-01),
    (-2.76742510726411731e-03, 4.99852801234917238e-03, 2.30417297573763929e-05, 2.85885980666130812e-04),
    (1.28943695621391310e01, -1.51111514016986312e01, -2.23307578892655734e-01),
    (2.96460137564761618e-03, 2.37847173959480950e-03, -2.96589568540237556e-05, 4.36624404335156298e-05),
    (1.53796971148509165e01, -2.59193146099879641e01, 1.79258772950371181e-01),
    (2.68067772490389322e-03, 1.62824170038242295e-03, -9.51592254519715870e-05, 5.15138902046611451e-05),
)


class Body:
    __slots__ = ("mass", "vx", "vy", "vz", "x", "y", "z")

    def __init__(self, at: tuple[float, ...], motion: tuple[float, ...]) -> None:
        self.x, self.y, self.z = at
        self.vx, self.vy, self.vz = (part * YEAR for part in motion[:3])
        self.mass = motion[3] * SUN


def bodies() -> list[Body]:
    """The sun, at rest so that the whole system is, and the planets."""
    system = [Body((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))]
    system += [Body(PLANETS[at], PLANETS[at + 1]) for at in range(0, len(PLANETS), 2)]
    system[0].vx = -sum(body.vx * body.mass for body in system) / SUN
    system[0].vy = -sum(body.vy * body.mass for body in system) / SUN
    system[0].vz = -sum(body.vz * body.mass for body in system) / SUN
    return system


def advance(pairs: list[tuple[Body, Body]], system: list[Body], step: float) -> None:
    for one, other in pairs:
        dx, dy, dz = one.x - other.x, one.y - other.y, one.z - other.z
        magnitude = step / (dx * dx + dy * dy + dz * dz) ** 1.5
        pull, push = other.mass * magnitude, one.mass * magnitude
        one.vx -= dx * pull
        one.vy -= dy * pull
        one.vz -= dz * pull
        other.vx += dx * push
        other.vy += dy * push
        other.vz += dz * push
    for body in system:
        body.x += step * body.vx
        body.y += step * body.vy
        body.z += step * body.vz


def energy(pairs: list[tuple[Body, Body]], system: list[Body]) -> float:
    kinetic = sum(body.mass * (body.vx**2 + body.vy**2 + body.vz**2) / 2 for body in system)
    return kinetic - sum(one.mass * other.mass / math.dist((one.x, one.y, one.z), (other.x, other.y, other.z)) for one, other in pairs)


def primes_below(bound: int) -> int:
    """The sieve of Eratosthenes."""
    sieve = bytearray([1]) * bound
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(bound) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, bound, number)))
    return sum(sieve)


def inverse_hilbert_sum(size: int) -> Fraction:
    """Solve H x = (1, ..., 1) by elimination with exact fractions; the sum of x is that of the inverse of H."""
    rows = [[Fraction(1, row + column + 1) for column in range(size)] + [Fraction(1)] for row in range(size)]
    for at in range(size):
        rows[at] = [item / rows[at][at] for item in rows[at]]
        for other in range(size):
            if other != at:
                factor = rows[other][at]
                rows[other] = [item - factor * lead for item, lead in zip(rows[other], rows[at], strict=True)]
    return sum((row[-1] for row in rows), Fraction(0))


def main() -> None:
    system = bodies()
    pairs = [(one, other) for number, one in enumerate(system) for other in system[number + 1 :]]
    before = energy(pairs, system)
    for _ in range(100_000):
        advance(pairs, system, 0.01)
    result = {"primes": primes_below(2_000_000), "energy_before": f"{before:.9f}", "energy": f"{energy(pairs, system):.9f}"}
    print(json.dumps(result | {"hilbert": str(inverse_hilbert_sum(16))}))


main()
