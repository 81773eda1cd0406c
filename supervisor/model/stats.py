# SPDX-License-Identifier: Apache-2.0
"""Texts of the kernel's cgroup files, as numbers. Total functions: odd lines are passed over."""

from __future__ import annotations


def _number(text: str) -> int | None:
    """A number as the kernel prints it, at most the 20 digits of 64 bits."""
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def parse_flat_keyed(text: str) -> dict[str, int]:
    """``cpu.stat``, ``memory.events``, ``pids.events`` ...: one ``name number`` a line."""
    numbers = {}
    for line in text.splitlines():
        name, _, amount = line.partition(" ")
        number = _number(amount)
        if number is not None:
            numbers[name] = number
    return numbers


def parse_single(text: str) -> int | None:
    """``memory.peak``, ``pids.peak``: one number; ``max`` and anything else is None."""
    return _number(text.strip())


def parse_io_stat(text: str) -> tuple[int, int]:
    """``io.stat``: bytes read and bytes written, summed over devices."""
    read = written = 0
    for word in text.split():
        key, _, amount = word.partition("=")
        number = _number(amount) or 0
        read += number if key == "rbytes" else 0
        written += number if key == "wbytes" else 0
    return read, written


def parse_pressure(text: str) -> dict[str, int]:
    """``*.pressure``: total stall time in nanoseconds by kind, ``some`` and ``full`` (psi.rst; the file has microseconds)."""
    totals = {}
    for line in text.splitlines():
        words = line.split()
        for word in words[1:]:
            key, _, amount = word.partition("=")
            number = _number(amount)
            if key == "total" and number is not None:
                totals[words[0]] = number * 1000
    return totals
