# SPDX-License-Identifier: Apache-2.0
"""Lists of processors as the kernel spells them: ``0-3,8``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

CPU_MAX: Final = 8191
"""The highest processor number any Linux kernel can be built for."""

_SEPARATORS: Final = " \t\n\r"
_DIGITS: Final = "0123456789"


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The processors named in ``text``, ascending, each once.

    ``text`` holds numbers and ranges (both ends belong to it) between commas or blanks, in any order
    and overlapping at will: ``0-3,8 10``. Doubled or trailing separators are passed over, as systemd
    and the kernel do; the kernel's strides (``0-31:2/16``) and words (``all``, ``N``) are refused.

    Raises:
        ValueError: no processor named, anything that is not a number or a range, a leading zero
            (which systemd reads as octal), a reversed range, or a number over :data:`CPU_MAX`; also for
            every type but ``str``.
    """
    if not isinstance(text, str):
        raise _not_a("list of CPUs", type(text).__name__[:60])
    named = bytearray(CPU_MAX + 1)
    for word in _words(text):
        low, dash, high = word.partition("-")
        first = _number(low, word)
        last = _number(high, word) if dash else first
        if last < first:
            raise ValueError(f"reversed range {word!r} in a list of CPUs: write {last}-{first}")
        named[first : last + 1] = b"\1" * (last + 1 - first)
    if not any(named):
        raise ValueError("empty list of CPUs: write numbers and ranges such as 0-3,8")
    return tuple([cpu for cpu, wanted in enumerate(named) if wanted])


def format_cpu_list(cpus: Iterable[int]) -> str:
    """``cpus`` the way the kernel prints them: ``0-3,8``, and no CPU at all as the empty text.

    Order and repetition do not matter.

    Raises:
        ValueError: an item that is not a whole number from 0 to :data:`CPU_MAX`.
    """
    ranges: list[list[int]] = []
    for cpu in sorted({_checked(cpu) for cpu in cpus}):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)


def _words(text: str) -> list[str]:
    for separator in _SEPARATORS:
        text = text.replace(separator, ",")
    return [word for word in text.split(",") if word]


def _number(digits: str, word: str) -> int:
    if not digits or digits.strip(_DIGITS):
        raise _not_a("CPU or a range of CPUs", _shown(word))
    if digits[0] == "0" and digits != "0":
        raise ValueError(f"leading zero in {_shown(word)}: write CPU numbers without, they are decimal")
    if len(digits) > len(str(CPU_MAX)) or int(digits) > CPU_MAX:
        raise ValueError(f"CPU number too large in {_shown(word)}: the highest is {CPU_MAX}")
    return int(digits)


def _not_a(what: str, shown: str) -> ValueError:
    return ValueError(f"{shown} is not a {what}: write numbers and ranges such as 0-3,8")


def _checked(cpu: object) -> int:
    if not isinstance(cpu, int) or isinstance(cpu, bool) or not 0 <= cpu <= CPU_MAX:
        raise ValueError(f"not a CPU number: each is a whole number from 0 to {CPU_MAX}")
    return int(cpu)


def _shown(word: str) -> str:
    """``word`` quoted on one line, at most 60 characters of it."""
    shown = repr(word[:61])
    return shown if len(shown) <= 62 else f"{shown[:57]}...{shown[0]}"
