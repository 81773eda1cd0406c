# SPDX-License-Identifier: Apache-2.0
"""runexec's command line, as BenchExec has it (benchexec 3.35, doc/runexec.md and ``runexec --help``)."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.getopt_long import NO_ARGUMENT, REQUIRED_ARGUMENT, getopt_long
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

#: What isolates a run in a container, or concerns files that only a container collects.
CONTAINER: Final = {
    "container": NO_ARGUMENT,
    "network-access": NO_ARGUMENT,
    "no-tmpfs": NO_ARGUMENT,
    "keep-system-config": NO_ARGUMENT,
    "keep-tmp": NO_ARGUMENT,
    "hidden-dir": REQUIRED_ARGUMENT,
    "read-only-dir": REQUIRED_ARGUMENT,
    "overlay-dir": REQUIRED_ARGUMENT,
    "full-access-dir": REQUIRED_ARGUMENT,
    "output-directory": REQUIRED_ARGUMENT,
    "result-files": REQUIRED_ARGUMENT,
    "filesCountLimit": REQUIRED_ARGUMENT,
    "filesSizeLimit": REQUIRED_ARGUMENT,
}
LONG: Final = {
    **dict.fromkeys(("help", "version", "debug", "quiet", "no-container", "skip-cleanup"), NO_ARGUMENT),
    **dict.fromkeys(
        (
            "memlimit timelimit softtimelimit walltimelimit cores memoryNodes input output maxOutputSize dir"
            " require-cgroup-subsystem set-cgroup-value"
        ).split(),
        REQUIRED_ARGUMENT,
    ),
    **CONTAINER,
}
SHORT: Final = {"h": "help"}
BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SECONDS: Final = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
#: Wall time that a run gets above its processor time when nothing else is said.
WALL_OVERHEAD_NS: Final = 30_000_000_000
#: Files of cgroup v2 that one of our limits stands for.
CGROUP_VALUES: Final = {
    "cpu.weight": "cpu_weight",
    "io.weight": "io_weight",
    "memory.min": "memory_min",
    "memory.low": "memory_low",
    "memory.high": "memory_high",
    "pids.max": "tasks_max",
}
_SECOND_NS: Final = 1_000_000_000
_MAX: Final = (1 << 63) - 1


@value
class RunexecOptions:
    """What one runexec command line asks for; None is not given. ``limits`` are the hard ones.

    ``container``: runexec's default, and what only it can do. ``told``: ``help`` or ``version`` when
    that is all that is wanted.
    """

    argv: tuple[str, ...] = ()
    limits: Limits = Limits()
    soft_time_ns: int | None = None
    input: str | None = None
    output: str = "output.log"
    max_output_bytes: int | None = None
    directory: str | None = None
    container: bool = True
    container_options: tuple[str, ...] = ()
    subsystems: tuple[str, ...] = ()
    cleanup: bool = True
    quiet: bool = False
    told: str = ""


def parse_runexec(argv: Sequence[str]) -> RunexecOptions:
    """Read the words behind ``runexec``. Pure; raises :class:`ConfigError` for the first thing wrong."""
    for word in argv:
        if word == "--":
            break
        if word.startswith("@"):
            raise ConfigError(f"{word[:60]}: options are not read from a file; give them here")
    found, operands = getopt_long(argv, LONG, SHORT)
    given: dict[str, str] = {name: argument or "" for name, argument in found}
    for name in ("help", "version"):
        if name in given:
            return RunexecOptions(told=name)
    if not operands:
        raise ConfigError("the command is missing")
    if {"quiet", "debug"} <= given.keys():
        raise ConfigError("--debug and --quiet exclude each other")
    if {"container", "no-container"} <= given.keys():
        raise ConfigError("--container and --no-container exclude each other")
    output = given.get("output", "output.log")
    if given.get("input", "-") not in ("-", "") and given["input"] == output:
        raise ConfigError("--input and --output: must not be the same file")
    limits, soft_time_ns = _limits(given, [argument or "" for name, argument in found if name == "set-cgroup-value"])
    return RunexecOptions(
        argv=tuple(operands),
        limits=limits,
        soft_time_ns=soft_time_ns,
        input=given.get("input"),
        output=output,
        max_output_bytes=_amount(given, "maxOutputSize", BYTES),
        directory=given.get("dir"),
        container="no-container" not in given,
        container_options=tuple(name for name, _ in found if name in CONTAINER),
        subsystems=tuple(argument or "" for name, argument in found if name == "require-cgroup-subsystem"),
        cleanup="skip-cleanup" not in given,
        quiet="quiet" in given,
    )


def _limits(given: dict[str, str], cgroup_values: list[str]) -> tuple[Limits, int | None]:
    made: dict[str, Any] = {}
    for text in cgroup_values:
        name, equals, amount = text.partition("=")
        if not equals or not all(name.partition(".")[::2]):
            raise ConfigError(f"--set-cgroup-value: {text[:60]!r} must be SUBSYSTEM.OPTION=VALUE")
        if name not in CGROUP_VALUES:
            known = ", ".join(CGROUP_VALUES)
            raise ConfigError(f"--set-cgroup-value: {name[:60]} is not one of the files that a limit of ours stands for: {known}")
        made[CGROUP_VALUES[name]] = _parsed("set-cgroup-value", CGROUP_VALUES[name], amount)
    hard = _positive(given, "timelimit")
    soft = _positive(given, "softtimelimit")
    wall = _positive(given, "walltimelimit")
    if hard is not None and soft is not None and soft > hard:
        raise ConfigError("--softtimelimit: must not be larger than --timelimit")
    if wall is None and (hard or soft) is not None:
        wall = (hard or soft or 0) + WALL_OVERHEAD_NS
    made |= {"cpu_time_max": hard, "wall_time_max": wall}
    memory = _amount(given, "memlimit", BYTES)
    if memory is not None:
        if memory == 0:
            raise ConfigError("--memlimit: must be more than zero")
        made["memory_max"] = memory
    for option, name in (("cores", "allowed_cpus"), ("memoryNodes", "allowed_memory_nodes")):
        if option in given:
            made[name] = _parsed(option, name, given[option])
    return replace(Limits(), **made), soft


def _parsed(option: str, limit: str, text: str) -> Any:
    try:
        return LIMITS[limit].parse(text)
    except ValueError as error:
        raise ConfigError(f"--{option}: {error}") from None


def _positive(given: dict[str, str], option: str) -> int | None:
    seconds = _amount(given, option, SECONDS, _MAX // _SECOND_NS)
    if seconds == 0:
        raise ConfigError(f"--{option}: must be more than zero")
    return None if seconds is None else seconds * _SECOND_NS


def _amount(given: dict[str, str], option: str, units: dict[str, int], most: int = _MAX) -> int | None:
    """A whole number with a unit behind it, as runexec writes them: ``60s``, ``2GB`` (powers of 1000)."""
    if option not in given:
        return None
    text = given[option].strip()
    digits = text.rstrip("".join(set("".join(units)))).strip()
    unit = text[len(digits) :].strip()
    if not (digits.isascii() and digits.isdigit()) or unit not in units:
        raise ConfigError(f"--{option}: {given[option][:60]!r} must be a whole number and a unit, one of {', '.join(filter(None, units))}")
    if len(digits) > 19 or int(digits) * units[unit] > most:
        raise ConfigError(f"--{option}: {given[option][:60]!r} is out of range")
    return int(digits) * units[unit]
