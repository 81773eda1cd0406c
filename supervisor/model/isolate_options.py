# SPDX-License-Identifier: Apache-2.0
"""isolate's command line: :func:`parse_isolate` reads it, :func:`isolate_limits` says it in our words.

Source of names, units and defaults: isolate(1) and its option table (isolate 2.6, August 2026). One
thing is stricter: a number that is not one, which isolate's ``atof`` takes for 0 and so for "no limit",
is refused.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.getopt_long import NO_ARGUMENT, OPTIONAL_ARGUMENT, REQUIRED_ARGUMENT, getopt_long
from supervisor.model.isolate_rules import DirRule, EnvRule, dir_rules, parse_env_rule
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.limits import Limits
from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

COMMANDS: Final = ("init", "run", "cleanup", "version", "print-cg-root", "check-config", "help")
LONG: Final = {
    **dict.fromkeys(COMMANDS, NO_ARGUMENT),
    **dict.fromkeys(
        ("cg no-default-dirs full-env inherit-fds share-net silent special-files stderr-to-stdout tty-hack verbose wait".split()),
        NO_ARGUMENT,
    ),
    **dict.fromkeys(
        (
            "as-uid as-gid box-id chdir cg-mem core dir fsize env extra-time mem meta quota stack open-files stderr stdin stdout"
            " syscalls time wall-time"
        ).split(),
        REQUIRED_ARGUMENT,
    ),
    "processes": OPTIONAL_ARGUMENT,
}
SHORT: Final = {
    "b": "box-id",
    "c": "chdir",
    "d": "dir",
    "D": "no-default-dirs",
    "e": "full-env",
    "E": "env",
    "f": "fsize",
    "i": "stdin",
    "k": "stack",
    "m": "mem",
    "M": "meta",
    "n": "open-files",
    "o": "stdout",
    "p": "processes",
    "q": "quota",
    "r": "stderr",
    "s": "silent",
    "t": "time",
    "v": "verbose",
    "w": "wall-time",
    "x": "extra-time",
}
INT_MAX: Final = (1 << 31) - 1


@value
class IsolateOptions:
    """What one isolate command line asks for; 0 and None mean what is not limited or not given.

    ``command``: one of :data:`COMMANDS`. ``argv``: the program of ``run``. ``dirs``: every directory
    of the box, defaults included, in order. ``extra_time_ns``: how much processor time a program may
    use before it is ended for having used more than ``time_ns``. ``processes``: 0 for any number.
    ``open_files``: 0 leaves the inherited limit.
    """

    command: str
    argv: tuple[str, ...] = ()
    box_id: int = 0
    meta: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stderr_to_stdout: bool = False
    chdir: str | None = None
    verbose: int = 0
    silent: bool = False
    wait: bool = False
    time_ns: int = 0
    wall_time_ns: int = 0
    extra_time_ns: int = 0
    mem_bytes: int = 0
    stack_bytes: int = 0
    fsize_bytes: int = 0
    core_bytes: int = 0
    open_files: int = 1024
    processes: int = 1
    quota: tuple[int, int] | None = None
    env: tuple[EnvRule, ...] = ()
    full_env: bool = False
    dirs: tuple[DirRule, ...] = ()
    own_dirs: bool = False
    cg: bool = False
    cg_mem_bytes: int = 0
    share_net: bool = False
    inherit_fds: bool = False
    tty_hack: bool = False
    special_files: bool = False
    syscalls: int | None = None
    as_uid: int | None = None
    as_gid: int | None = None


#: option → (field, what turns its text into the field's value)
_NUMBERS: Final = {
    "box-id": ("box_id", 1),
    "open-files": ("open_files", 1),
    "syscalls": ("syscalls", 1),
    "as-uid": ("as_uid", 1),
    "as-gid": ("as_gid", 1),
    "mem": ("mem_bytes", 1024),
    "stack": ("stack_bytes", 1024),
    "fsize": ("fsize_bytes", 1024),
    "core": ("core_bytes", 1024),
    "cg-mem": ("cg_mem_bytes", 1024),
}
_TIMES: Final = {"time": "time_ns", "wall-time": "wall_time_ns", "extra-time": "extra_time_ns"}
_TEXTS: Final = {"meta": "meta", "stdin": "stdin", "stdout": "stdout", "chdir": "chdir"}


def parse_isolate(argv: Sequence[str]) -> IsolateOptions:
    """Read the words behind ``isolate``. Pure; raises :class:`ConfigError` for the first thing wrong."""
    found, operands = getopt_long(argv, LONG, SHORT)
    given: dict[str, Any] = {}
    env: list[EnvRule] = []
    dirs: list[str] = []
    for name, argument in found:
        text = argument or ""
        if name in COMMANDS:
            if given.setdefault("command", name) != name:
                raise ConfigError("only one command is allowed, --init, --run, --cleanup or one that tells")
        elif name in _NUMBERS:
            field, factor = _NUMBERS[name]
            given[field] = _number(name, text) * factor
        elif name in _TIMES:
            given[_TIMES[name]] = _seconds_ns(name, text)
        elif name in _TEXTS:
            given[_TEXTS[name]] = text
        elif name == "env":
            env.append(parse_env_rule(text))
        elif name == "dir":
            dirs.append(text)
        elif name == "processes":
            given["processes"] = 0 if argument is None else _number(name, text)
        elif name == "quota":
            blocks, comma, inodes = text.partition(",")
            if not comma:
                raise ConfigError(f"--quota: {text[:60]!r} must be BLOCKS,INODES")
            given["quota"] = (_number(name, blocks), _number(name, inodes))
        elif name in ("stderr", "stderr-to-stdout"):  # the last one wins
            given |= {"stderr": argument, "stderr_to_stdout": argument is None}
        elif name == "verbose":
            given["verbose"] = given.get("verbose", 0) + 1
        elif name != "no-default-dirs":
            given[name.replace("-", "_")] = True
    no_defaults = ("no-default-dirs", None) in found
    given |= {"env": tuple(env), "dirs": dir_rules(dirs, not no_defaults), "own_dirs": bool(dirs) or no_defaults}
    return _checked(given, tuple(operands))


def _checked(given: dict[str, Any], operands: tuple[str, ...]) -> IsolateOptions:
    command = given.get("command")
    if command is None:
        raise ConfigError("a command is missing: --init, --run or --cleanup")
    if given.get("cg_mem_bytes") is not None and not given.get("cg"):
        raise ConfigError("--cg-mem: needs --cg")
    if command == "run" and not operands:
        raise ConfigError("--run: the program is missing")
    if command in ("init", "cleanup") and operands:
        raise ConfigError(f"--{command}: takes no program, so {operands[0][:60]!r} has no meaning")
    if ("as_uid" in given) != ("as_gid" in given):
        raise ConfigError("--as-uid and --as-gid: both or none")
    return IsolateOptions(**given, argv=operands)


def _number(name: str, text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"--{name}: {text[:60]!r} is not a whole number")
    if len(digits) > 20 or int(digits) > INT_MAX:
        raise ConfigError(f"--{name}: {text[:60]!r} is out of range (at most {INT_MAX})")
    return int(digits)


def _seconds_ns(name: str, text: str) -> int:
    """Seconds with a fraction, exactly; isolate keeps whole milliseconds, we keep what was written."""
    whole, _, decimals = text.strip().partition(".")
    digits = whole + decimals
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"--{name}: {text[:60]!r} is not a number of seconds such as 1.5")
    if len(whole) > 9 or int(whole or "0") * 1000 > INT_MAX:
        raise ConfigError(f"--{name}: {text[:60]!r} is out of range (at most {INT_MAX // 1000} seconds)")
    return int(whole or "0") * 1_000_000_000 + int(decimals[:9].ljust(9, "0"))


def isolate_limits(options: IsolateOptions) -> Limits:
    """The limits of ``--run`` as ours.

    Processor time is where the program is *ended*, which ``--extra-time`` may put above ``--time``.
    """
    made: dict[str, Any] = {
        "limit_stack": _both(options.stack_bytes or INFINITY),
        "limit_core": _both(options.core_bytes),
        "limit_memlock": _both(0),
    }
    if options.time_ns:
        made["cpu_time_max"] = max(options.time_ns, options.extra_time_ns)
    if options.wall_time_ns:
        made["wall_time_max"] = options.wall_time_ns
    if options.mem_bytes:
        made["limit_as"] = _both(options.mem_bytes)
    if options.fsize_bytes:
        made["limit_fsize"] = _both(options.fsize_bytes)
    if options.open_files:
        made["limit_nofile"] = _both(options.open_files)
    if options.processes:
        made["tasks_max"] = options.processes
    if options.cg_mem_bytes:
        made["memory_max"] = options.cg_mem_bytes
    return replace(Limits(), **made)


def _both(amount: float) -> Rlimit:
    return Rlimit(soft=amount, hard=amount)
