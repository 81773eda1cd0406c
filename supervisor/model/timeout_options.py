# SPDX-License-Identifier: Apache-2.0
"""timeout's command line and exit statuses, as GNU coreutils has them (timeout(1), 9.1 to 9.7)."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.getopt_long import NO_ARGUMENT, REQUIRED_ARGUMENT, getopt_long
from supervisor.model.units import INFINITY
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

LONG: Final = {
    "foreground": NO_ARGUMENT,
    "kill-after": REQUIRED_ARGUMENT,
    "preserve-status": NO_ARGUMENT,
    "signal": REQUIRED_ARGUMENT,
    "verbose": NO_ARGUMENT,
    "help": NO_ARGUMENT,
    "version": NO_ARGUMENT,
}
SHORT: Final = {"f": "foreground", "k": "kill-after", "p": "preserve-status", "s": "signal", "v": "verbose"}
SUFFIXES: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SIGKILL: Final = 9
SIGTERM: Final = 15

#: Names of signal(7) for the generic numbering (x86, arm, most others), without SIG.
SIGNALS: Final = {
    name: number
    for number, names in enumerate(
        "EXIT HUP INT QUIT ILL TRAP ABRT/IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD/CLD CONT STOP TSTP TTIN TTOU"
        " URG XCPU XFSZ VTALRM PROF WINCH POLL/IO PWR SYS".split()
    )
    for name in names.split("/")
}
RTMIN: Final = 34
RTMAX: Final = 64
TIMED_OUT: Final = 124


@value
class TimeoutOptions:
    """What one timeout command line asks for. Durations are nanoseconds, 0 and INFINITY for none.

    ``told``: ``help`` or ``version`` when that is all that is wanted.
    """

    argv: tuple[str, ...] = ()
    duration_ns: int | float = 0
    kill_after_ns: int | float = 0
    signal: int = SIGTERM
    foreground: bool = False
    preserve_status: bool = False
    verbose: bool = False
    told: str = ""


def parse_timeout(argv: Sequence[str]) -> TimeoutOptions:
    """Read the words behind ``timeout``. Pure; raises :class:`ConfigError` in timeout's words."""
    found, operands = getopt_long(argv, LONG, SHORT, permute=False)
    given: dict[str, Any] = {}
    for name, argument in found:
        if name in ("help", "version"):
            return TimeoutOptions(told=name)
        if name == "kill-after":
            given["kill_after_ns"] = parse_interval_ns(argument or "")
        elif name == "signal":
            given["signal"] = parse_signal(argument or "")
        else:
            given[name.replace("-", "_")] = True
    if len(operands) < 2:
        raise ConfigError("missing operand" if not operands else f"missing operand after '{operands[0][:60]}'")
    return TimeoutOptions(argv=tuple(operands[1:]), duration_ns=parse_interval_ns(operands[0]), **given)


def parse_interval_ns(text: str) -> int | float:
    """A number as strtod(3) reads one, with s, m, h or d behind it; raises :class:`ConfigError`.

    What is less than a nanosecond, but more than 0, is one; what the clock cannot hold is INFINITY.
    """
    seconds = _strtod(text)
    if seconds is None and text[-1:] in SUFFIXES:
        seconds = _strtod(text[:-1])
        if seconds is not None:
            seconds *= SUFFIXES[text[-1]]
    if seconds is None or not seconds >= 0:
        raise ConfigError(f"invalid time interval '{text[:60]}'")
    if seconds * 1e9 >= 2**63:
        return INFINITY
    over, under = seconds.as_integer_ratio()
    return -(-over * 1_000_000_000 // under)


def _strtod(text: str) -> float | None:
    """The whole text as strtod(3) reads it in the C locale, or None."""
    digits = text.lstrip(" \t\n\v\f\r")
    if not digits.isascii() or digits != digits.strip() or "_" in digits:
        return None
    try:
        if digits.lstrip("+-")[:2] in ("0x", "0X"):
            return float.fromhex(digits)
        return float(digits)
    except OverflowError:
        return INFINITY
    except ValueError:
        return None


def parse_signal(text: str) -> int:
    """A signal by name, with or without SIG, or by number; 0 and EXIT are none. Raises :class:`ConfigError`."""
    bad = ConfigError(f"'{text[:60]}': invalid signal")
    if text[:1].isdecimal() and text.isascii():
        if not text.isdecimal() or len(text) > 9:
            raise bad
        number = int(text)
        number = number & 0x7F if 0 < number & 0x7F < 0x7F else number  # an exit status tells its signal
    else:
        number = _signal_named(text.upper().removeprefix("SIG"))
    if not (0 <= number < 32 or RTMIN <= number <= RTMAX):
        raise bad
    return number


def _signal_named(name: str) -> int:
    for base, start, sign in ((RTMIN, "RTMIN", 1), (RTMAX, "RTMAX", -1)):
        if name.startswith(start):
            rest = name.removeprefix(start)
            if not rest:
                return base
            if (
                rest[0] == "+-"[sign < 0]
                and rest[1:].isascii()
                and rest[1:].isdecimal()
                and len(rest) < 4
                and int(rest[1:]) <= RTMAX - RTMIN
            ):
                return base + sign * int(rest[1:])
            return -1
    return SIGNALS.get(name, -1)


def signal_name(number: int) -> str:
    """The name timeout prints for a signal: ``TERM``, ``EXIT`` for 0, ``RTMIN+1``, ``RTMAX-3``."""
    if number < 32:
        return next(name for name, known in SIGNALS.items() if known == number)
    if number <= RTMIN + (RTMAX - RTMIN) // 2:
        return "RTMIN" + (f"+{number - RTMIN}" if number > RTMIN else "")
    return "RTMAX" + (f"-{RTMAX - number}" if number < RTMAX else "")


def timeout_status(code: int | None, signal: int | None, timed_out: bool, preserve_status: bool) -> int:
    """The exit status for a command that exited with ``code`` or by ``signal``.

    A command that had to be killed tells by 137 that it was, even without ``--preserve-status``.
    """
    if timed_out and not preserve_status and signal != SIGKILL:
        return TIMED_OUT
    return 128 + signal if signal is not None else code or 0
