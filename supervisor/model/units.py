# SPDX-License-Identifier: Apache-2.0
"""Sizes, durations, percentages and counts, as a person writes them and as Ringfence keeps them.

The words have systemd's meaning: ``512M`` is 512 * 1024**2 bytes, ``5min 20s`` is a time span of
systemd.time(7), ``infinity`` (or the kernel's ``max``) is no limit. ``parse_*`` gives an ``int``, or
:data:`INFINITY` where no limit can be spelled; ``format_bytes`` and ``format_duration`` give text
that parses back to the same number; ``format_*_human`` rounds, for tables.

Every function is total: for any text, any number and any other type a TOML or JSON file can hold, it
returns, or raises ``ValueError`` with one line that says what is wrong and what would be right.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, Protocol

    class SupportsTotalSeconds(Protocol):
        """A ``datetime.timedelta`` or its like."""

        def total_seconds(self) -> float:
            """Its length, negative if it points back."""


INFINITY: Final[float] = float("inf")
"""No limit: what ``infinity`` and ``max`` parse to, larger than every number."""

_MAX: Final = 2**63 - 1
_TEXT_MAX: Final = 256
_UNLIMITED: Final = ("infinity", "max")
_BLANK: Final = " \t\n\r"
_DIGITS: Final = "0123456789"
_ENDS_UNIT: Final = _BLANK + _DIGITS + ".+-"
_REMEDY: Final = {
    "size": "write bytes or a number with K M G T P E, such as 512M, or infinity",
    "duration": "write seconds or a time span such as 1.5s or 5min 20s, or infinity",
    "count": "write a whole number such as 64, or infinity",
    "percentage": "write a number and %, such as 50% or 12.5%",
}
_LARGEST: Final = {"size": "2**63-1 bytes", "duration": "2**63-1 ns, 292 years", "count": "2**63-1", "percentage": "2**63-1 ppm"}

_SIZE_LETTERS: Final = "EPTGMK"
_SIZE_TAILS: Final = ("", "B", "i", "iB")
_SIZE_RANKS: Final = {
    **{letter + tail: rank for rank, letter in enumerate(_SIZE_LETTERS) for tail in _SIZE_TAILS},
    "B": len(_SIZE_LETTERS),
    "": len(_SIZE_LETTERS) + 1,
}
_SIZE_FACTORS: Final = (*(1024**power for power in range(len(_SIZE_LETTERS), 0, -1)), 1, 1)
_DECIMAL_FACTORS: Final = (*(1000**power for power in range(len(_SIZE_LETTERS), 0, -1)), 1, 1)

_US: Final = 1000
_MS: Final = 1000 * _US
_SECOND: Final = 1000 * _MS
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 31_557_600 * _SECOND  # 365.25 days, systemd's
_SPANS: Final = (  # the first word is the one printed; \u00b5 is the micro sign, \u03bc the letter mu
    (_YEAR, "y year years"),
    (_YEAR // 12, "month months M"),
    (7 * _DAY, "w week weeks"),
    (_DAY, "d day days"),
    (_HOUR, "h hr hour hours"),
    (_MINUTE, "min m minute minutes"),
    (_SECOND, "s sec second seconds"),
    (_MS, "ms msec"),
    (_US, "us usec \u00b5s \u03bcs"),
    (1, "ns nsec"),
)
_SPAN_FACTORS: Final = {"": _SECOND, **{word: factor for factor, words in _SPANS for word in words.split()}}
_SPAN_WORDS: Final = tuple((factor, words.split()[0]) for factor, words in _SPANS)
_TABLE_SPANS: Final = (  # from a minute on: up to where it would round to the next row's, the smaller unit, the two words
    (_HOUR - _SECOND // 2, _SECOND, 60, "min", "s"),
    (_DAY - _MINUTE // 2, _MINUTE, 60, "h", "min"),
    (_MAX + 1, _HOUR, 24, "d", "h"),
)


def parse_bytes(text: str | int, *, decimal: bool = False) -> int | float:
    """A size in bytes.

    K, M, G, T, P and E are powers of 1024, and so is each of their longer spellings: ``K``, ``KB``,
    ``Ki`` and ``KiB`` all mean 1024 bytes. Letters are upper case. Plain digits, or ``B``, are bytes.
    A fraction is rounded down to a byte: ``1.5G``. Parts add up, largest unit first, each unit once:
    ``1G 512M``. ``infinity`` and ``max`` give :data:`INFINITY`; an ``int`` passes through.
    ``decimal``: powers of 1000 instead, as systemd reads bandwidths (systemd.resource-control(5)).

    Raises:
        ValueError: empty, negative, not a number, an unknown unit, a percentage, units out of order,
            or over 2**63-1 bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return _in_range(int(text), "size")
    text = _strip(text, "size")
    if text in _UNLIMITED:
        return INFINITY
    total, last = 0, -1
    factors = _DECIMAL_FACTORS if decimal else _SIZE_FACTORS
    for whole, decimals, unit in _terms(text, "size"):
        rank = _SIZE_RANKS.get(unit)
        if rank is None:
            if unit == "%":
                raise ValueError(f"{_shown(text)} is a percentage, not a size: {_REMEDY['size']}")
            raise ValueError(f"unknown unit {_shown(unit)} in a size: use K M G T P E, in upper case")
        if rank <= last:
            raise ValueError(f"units out of order in {_shown(text)}: the largest goes first and each comes once, as in 1G512M")
        last = rank
        total = _in_range(total + _scale(whole, decimals, factors[rank]), "size")
    return total


def parse_duration_ns(text: str | float | SupportsTotalSeconds) -> int | float:
    """A time span in nanoseconds.

    Text is a time span of systemd.time(7), parts adding up in any order: ``5min 20s``, ``1h30m``,
    ``1.5s``, ``100ms``; here ``ns`` is a unit too. ``m`` is a minute and ``M`` a month (a twelfth of
    a year of 365.25 days). A number without a unit is seconds. Each part is rounded down to a
    nanosecond. ``infinity`` and ``max`` give :data:`INFINITY`.

    An ``int`` or ``float`` is seconds, rounded to the nearest nanosecond. An object with
    ``total_seconds()`` is rounded to the microsecond, which is what a ``timedelta`` counts.

    Raises:
        ValueError: empty, negative, not a number, not finite, an unknown unit, or over 2**63-1 ns
            (292 years).
    """
    if not isinstance(text, str):
        total_seconds = getattr(text, "total_seconds", None)
        if total_seconds is None:
            return _nearest(text, _SECOND, "duration")
        return _in_range(_nearest(total_seconds(), 1_000_000, "duration") * _US, "duration")
    text = _strip(text, "duration")
    if text in _UNLIMITED:
        return INFINITY
    total = 0
    for whole, decimals, unit in _terms(text, "duration"):
        factor = _SPAN_FACTORS.get(unit)
        if factor is None:
            raise ValueError(f"unknown unit {_shown(unit)} in a duration: use ns us ms s min h d w month y")
        total = _in_range(total + _scale(whole, decimals, factor), "duration")
    return total


def parse_percent_ppm(text: str) -> int:
    """A percentage in millionths of the whole: ``50%`` is 500_000, ``250%`` is 2_500_000.

    Raises:
        ValueError: no ``%`` at the end, empty, negative, not a number, finer than 0.0001%, or over
            2**63-1 ppm; also for every type but ``str``.
    """
    text = _strip(text, "percentage")
    whole, dot, fraction = text[:-1].partition(".")
    if text[-1] != "%" or (dot and (not fraction or fraction.strip(_DIGITS))):
        raise _not_a("percentage", text)
    percent = _plain(whole, text, "percentage")
    if fraction[4:].strip("0"):
        raise ValueError(f"{_shown(text)} is too fine: write at most four decimals, as in 12.5%")
    return _in_range(percent * 10_000 + int(fraction[:4].ljust(4, "0")), "percentage")


def parse_count(text: str | int) -> int | float:
    """A number of things: ``64``, or :data:`INFINITY` for ``infinity`` and ``max``.

    Raises:
        ValueError: empty, negative, anything but decimal digits, digits after a leading zero (which
            systemd reads as octal), or over 2**63-1.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return _in_range(int(text), "count")
    text = _strip(text, "count")
    return INFINITY if text in _UNLIMITED else _in_range(_plain(text, text, "count"), "count")


def format_bytes(n: float) -> str:
    """The shortest exact spelling of ``n`` bytes: ``256M``, ``1000``, ``infinity``. :func:`parse_bytes` reads it back.

    Raises:
        ValueError: negative, not whole, or over 2**63-1.
    """
    if n == INFINITY:
        return "infinity"
    count = _whole(n, "size")
    for letter, factor in zip(_SIZE_LETTERS, _SIZE_FACTORS, strict=False):
        if count and count % factor == 0:
            return f"{count // factor}{letter}"
    return str(count)


def format_duration(ns: float) -> str:
    """``ns`` nanoseconds as systemd prints a time span, exactly: ``5min 20s``, ``1.500s``, ``0``, ``infinity``.

    Below a minute a remainder takes 3, 6 or 9 decimals, the fewest that are exact (systemd's
    accuracy of a millisecond, of a microsecond, and ours). :func:`parse_duration_ns` reads it back.

    Raises:
        ValueError: negative, not whole, or over 2**63-1.
    """
    if ns == INFINITY:
        return "infinity"
    left = _whole(ns, "duration")
    parts: list[str] = []
    for factor, word in _SPAN_WORDS:
        if left < factor:
            continue
        count, rest = divmod(left, factor)
        if rest and left < _MINUTE:
            decimals = f"{rest:0{len(str(factor)) - 1}d}"
            while decimals.endswith("000"):
                decimals = decimals[:-3]
            parts.append(f"{count}.{decimals}{word}")
            break
        parts.append(f"{count}{word}")
        left = rest
    return " ".join(parts) or "0"


def format_bytes_human(n: float) -> str:
    """``n`` bytes for a table, to a tenth of the unit: ``512 B``, ``62.1 MiB``, ``infinity``.

    Raises:
        ValueError: negative, NaN, or over 2**63-1.
    """
    if n == INFINITY:
        return "infinity"
    count = _nearest(n, 1, "size")
    if count < 1024:
        return f"{count} B"
    power = 1
    while (tenths := _divide(count * 10, 1024**power)) >= 10 * 1024:
        power += 1
    return f"{tenths // 10}.{tenths % 10} {_SIZE_LETTERS[-power]}iB"


def format_duration_human(ns: float) -> str:
    """``ns`` nanoseconds for a table: ``12.3 ms``, ``1.23 s``, ``5min 20s``, ``3d 4h``, ``infinity``.

    Three digits below a minute, above it the two largest units of min s, h min, d h.

    Raises:
        ValueError: negative, NaN, or over 2**63-1.
    """
    if ns == INFINITY:
        return "infinity"
    count = _nearest(ns, 1, "duration")
    if count == 0:
        return "0 s"
    if count < 1000:
        return f"{count} ns"
    for factor, word, limit in ((_US, "us", 1000), (_MS, "ms", 1000), (_SECOND, "s", 60)):
        for places in (2, 1, 0):
            scaled = _divide(count * 10**places, factor)
            if scaled < min(1000, limit * 10**places):
                whole, decimals = divmod(scaled, 10**places)
                return f"{whole}.{decimals:0{places}d} {word}" if places else f"{whole} {word}"
    step, base, large, small = next(row[1:] for row in _TABLE_SPANS if count < row[0])
    whole, rest = divmod(_divide(count, step), base)
    return f"{whole}{large} {rest}{small}" if rest else f"{whole}{large}"


def _shown(text: str) -> str:
    """``text`` quoted on one line, at most 60 characters of it."""
    shown = repr(text[:61])
    return shown if len(shown) <= 62 else f"{shown[:57]}...{shown[0]}"


def _not_a(what: str, item: object) -> ValueError:
    shown = _shown(item) if isinstance(item, str) else type(item).__name__[:60]
    return ValueError(f"{shown} is not a {what}: {_REMEDY[what]}")


def _in_range(n: int, what: str) -> int:
    if n < 0:
        raise ValueError(f"negative {what}: write 0 or more")
    if n > _MAX:
        raise ValueError(f"{what} too large (over {_LARGEST[what]}): write less, or infinity")
    return n


def _strip(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise _not_a(what, text)
    if len(text) > _TEXT_MAX:
        raise ValueError(f"{_shown(text)} is too long (over {_TEXT_MAX} characters): {_REMEDY[what]}")
    text = text.strip(_BLANK)
    if not text:
        raise ValueError(f"empty {what}: {_REMEDY[what]}")
    if text[0] == "-":
        raise ValueError(f"negative {what}: write 0 or more")
    return text


def _plain(digits: str, text: str, what: str) -> int:
    """``digits`` as a decimal number, which is ``text`` or stands in it."""
    if not digits or digits.strip(_DIGITS):
        raise _not_a(what, text)
    if digits[0] == "0" and digits != "0":
        raise ValueError(f"leading zero in {_shown(text)}: write it without, numbers are decimal")
    return int(digits)


def _take(characters: str, text: str) -> tuple[str, str]:
    """``text`` in two: what it begins with of ``characters``, and the rest."""
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest


def _terms(text: str, what: str) -> Iterator[tuple[str, str, str]]:
    """The parts of ``text``: digits, decimals and unit, each of which may be empty.

    This takes exactly what the strtoull() and strtoll() loops of systemd's parse_size() and
    parse_time() take: a plus sign before a digit, ``10.M`` in a size only, ``.5s`` in a duration only.
    """
    rest = text
    while rest:
        start = rest
        if start[0] == "-":
            raise ValueError(f"negative {what}: write 0 or more")
        whole, rest = _take(_DIGITS, start.removeprefix("+"))
        dot, rest = (".", rest[1:]) if rest.startswith(".") else ("", rest)
        decimals, rest = _take(_DIGITS, rest) if dot else ("", rest)
        blank, rest = _take(_BLANK, rest)
        stop = next((at for at, character in enumerate(rest) if character in _ENDS_UNIT), len(rest))
        no_whole = not whole and (what == "size" or not decimals or start[0] == "+")
        no_decimals = what == "duration" and dot and not decimals
        no_gap = rest and not blank and not stop  # a second number right behind the first, as in 1.5.5
        if no_whole or no_decimals or no_gap:
            raise _not_a(what, text)
        yield whole, decimals, rest[:stop]
        rest = rest[stop:].lstrip(_BLANK)


def _scale(whole: str, decimals: str, factor: int) -> int:
    """``whole.decimals`` times ``factor``, rounded down."""
    parts: int = int(decimals or "0") * factor // 10 ** len(decimals)
    return int(whole or "0") * factor + parts


def _divide(n: int, by: int) -> int:
    """``n / by`` to the nearest whole number, halves up."""
    return (2 * n + by) // (2 * by)


def _nearest(item: object, scale: int, what: str) -> int:
    """A real number times ``scale``, exactly, then to the nearest whole number."""
    if not isinstance(item, (int, float)) or isinstance(item, bool):
        raise _not_a(what, item)
    if not -INFINITY < item < INFINITY:
        raise ValueError(f"{what} is not a finite number: {_REMEDY[what]}")
    if item < 0:
        return _in_range(-1, what)
    over, under = item.as_integer_ratio()
    return _in_range(_divide(over * scale, under), what)


def _whole(n: float, what: str) -> int:
    count = _nearest(n, 1, what)
    if count != n:
        raise ValueError(f"{what} is not a whole number: round it first")
    return count
