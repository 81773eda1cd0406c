# SPDX-License-Identifier: Apache-2.0
"""JobSpec: what somebody wants run, before anything is known about the host."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.units import parse_duration_ns
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final

    from supervisor.model.capture import OutputStream
    from supervisor.model.sandbox import Sandbox

    Text = str | bytes

#: Where a standard stream goes. The numbers are subprocess's, so its constants can be given as well.
PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3
#: Ours: collected in memory and returned with the outcome, or copied through and counted.
COLLECT: Final = -4
RELAY: Final = -5

#: What each stream takes besides a descriptor and None.
STREAM_WORDS: Final = {
    "stdin": (PIPE, DEVNULL),
    "stdout": (PIPE, DEVNULL, COLLECT, RELAY),
    "stderr": (PIPE, STDOUT, DEVNULL, COLLECT, RELAY),
}


#: Who gets the polite signal of a stop; systemd's words. What is left after the grace is killed in either.
KILL_MODES: Final = ("mixed", "control-group")
DEFAULT_KILL_GRACE_NS: Final = 2_000_000_000
#: The last user and group number: (uid_t)-1 means "leave as it is" to the kernel.
ID_MAX: Final = (1 << 32) - 2


@value
class Credentials:
    """The user a job runs as, resolved to numbers; ``groups`` are the supplementary ones."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


@value
class JobSpec:
    """One run of one command: what to run, where, as whom, and inside which limits.

    ``argv``: the command and its arguments; the first is looked up in PATH unless it holds a slash.
    ``env``: the whole environment, or ``None`` for the supervisor's own. ``stdin``, ``stdout``,
    ``stderr``: a descriptor of at least 0, ``None`` to inherit, one of the constants above, or (not stdin) a ``Capture`` or a ``Tee``.
    ``input``: bytes for stdin. ``best_effort``: limits that may be sampled, or lapse, where the host
    cannot enforce them. ``kill_grace_ns``: from the polite signal of a stop to the kill of the tree.
    ``kill_mode``: who gets the polite signal, ``mixed`` the main process, ``control-group`` every process of the tree.
    ``limit_grace_ns``: the same when a limit of time is reached; 0 kills at once.
    ``preexec``: Python callables run in the child before exec, on the slow path (it costs a fork).
    ``die_with_parent``: the job is killed when the supervisor dies. Raises :class:`ConfigError`
    with every problem found.
    """

    argv: Sequence[Text]
    env: Mapping[Any, Text] | None = None  # names are Text too; Mapping is invariant in them
    working_directory: Text | None = None
    stdin: int | None = None
    stdout: OutputStream = None
    stderr: OutputStream = None
    input: bytes | None = None
    limits: Limits = Limits()
    best_effort: frozenset[str] = frozenset()
    sandbox: Sandbox | None = None  # None: nothing is taken away, and nothing of the sandbox is imported
    credentials: Credentials = Credentials()
    umask: int | None = None
    nice: int | None = None
    oom_score_adjust: int | None = None
    cpu_affinity: tuple[int, ...] | None = None
    no_new_privileges: bool = False
    start_new_session: bool = False
    process_group: bool = False
    controlling_terminal: int | None = None
    pass_fds: tuple[int, ...] = ()
    kill_signal: int = 15
    kill_mode: str = "mixed"
    kill_grace_ns: int = DEFAULT_KILL_GRACE_NS
    limit_grace_ns: int = 0
    die_with_parent: bool = True
    preexec: tuple[Callable[[], object], ...] = ()
    labels: Mapping[str, str] | None = None

    def _check(self) -> None:
        problems = _argv_problems(self.argv)
        if _checked_fields(self) != _NOTHING_TO_CHECK:  # most jobs leave these alone, and thousands a second start
            problems += [*_text_problems(self), *_range_problems(self)]
        if problems:
            raise ConfigError(*problems)
        set_field(self, "argv", tuple(self.argv))
        if self.env is not None:
            set_field(self, "env", dict(self.env))  # the caller's may change, and plans of this specification are kept


def goes_to(stream: object, *words: int) -> bool:
    """The stream, or a half of it, goes to one of these."""
    return stream in words or any(target in words for target in getattr(stream, "targets", ()))


def passes_through_us(stream: OutputStream) -> bool:
    """The supervisor sees and counts the bytes of such a stream."""
    return stream is not None and (not isinstance(stream, int) or stream in (COLLECT, RELAY, PIPE))


def _checked_fields(spec: JobSpec) -> tuple[object, ...]:
    return (
        spec.env,
        spec.working_directory,
        spec.stdin,
        spec.stdout,
        spec.stderr,
        spec.input,
        spec.limits.output_max,
        spec.best_effort,
        spec.credentials,
        spec.umask,
        spec.nice,
        spec.oom_score_adjust,
        spec.cpu_affinity,
        spec.pass_fds,
        spec.kill_signal,
        spec.kill_mode,
        spec.kill_grace_ns,
        spec.limit_grace_ns,
    )


def _argv_problems(argv: Any) -> list[str]:
    if isinstance(argv, (str, bytes)) or not isinstance(argv, (tuple, list)):
        return ["argv: must be a list of texts such as ['sleep', '1'], one item an argument"]
    if not argv or not argv[0]:
        return ["argv: the command is missing"]
    wrong = [item for item in argv if not isinstance(item, (str, bytes))]
    if wrong:
        return [f"argv: every argument must be text or bytes, not {type(wrong[0]).__name__}"]
    reasons = [reason for item in argv if (reason := _unfit(item))]
    return [f"argv: an argument {reasons[0]}, which the kernel cannot pass on"] if reasons else []


def _unfit(item: Any, forbidden: bytes = b"\0") -> str:
    """Why the kernel cannot take this text; empty when it can."""
    if not isinstance(item, (str, bytes)):
        return f"is a {type(item).__name__}, neither text nor bytes"
    try:
        raw = item if isinstance(item, bytes) else item.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "holds a lone surrogate, for which there are no bytes"
    found = [byte for byte in forbidden if byte in raw]
    return "" if not found else "holds a NUL character" if found[0] == 0 else f"holds {chr(found[0])!r}"


def _text_problems(spec: JobSpec) -> list[str]:
    problems = []
    for name, text in (spec.env or {}).items():
        reason = _unfit(name, b"\0=") or ("is empty" if not name else "")
        if reason:
            problems.append(f"env: the name {repr(name)[:60]} {reason}")
        elif reason := _unfit(text):
            problems.append(f"env: the value of {repr(name)[:60]} {reason}")
    directory = spec.working_directory
    if directory is not None and (reason := _unfit(directory) or ("is empty" if not directory else "")):
        problems.append(f"working_directory: the path {reason}")
    return problems


def _range_problems(spec: JobSpec) -> list[str]:
    problems = [
        f"{name}: must lie between {shown(low)} and {shown(high)}"
        for name, amount, low, high, shown in (
            ("umask", spec.umask, 0, 0o777, "{:04o}".format),
            ("nice", spec.nice, -20, 19, str),
            ("oom_score_adjust", spec.oom_score_adjust, -1000, 1000, str),
            ("kill_signal", spec.kill_signal, 1, 64, str),
        )
        if amount is not None and not low <= amount <= high
    ]
    if spec.kill_mode not in KILL_MODES:
        problems.append(f"kill_mode: {spec.kill_mode!r} is none of {', '.join(KILL_MODES)}")
    problems += [f"{name}: must not be negative" for name in ("kill_grace_ns", "limit_grace_ns") if getattr(spec, name) < 0]
    problems += [f"best_effort: {name!r} is not a limit" for name in sorted(spec.best_effort) if name not in LIMITS]
    problems += [
        f"{name}: {stream!r} is neither a descriptor nor a constant with a meaning here"
        for name, meant in STREAM_WORDS.items()
        if not _is_meant(stream := getattr(spec, name), meant, name)
    ]
    who = spec.credentials
    numbers = (who.uid, who.gid, *(who.groups or ()))
    problems += [
        f"credentials: {number} is not a user or group, 0 to {ID_MAX}"
        for number in numbers
        if number is not None and not 0 <= number <= ID_MAX
    ]
    if spec.cpu_affinity is not None:
        problems += _cpu_problems(spec.cpu_affinity)
    problems += [f"pass_fds: {fd!r} is not a descriptor of 3 or more" for fd in spec.pass_fds if not isinstance(fd, int) or fd < 3]
    if spec.input is not None and spec.stdin not in (None, PIPE):
        problems.append("input: needs stdin to be left free, it travels through a pipe of its own")
    return problems


def _is_meant(stream: Any, words: tuple[int, ...], name: str) -> bool:
    if stream is None or isinstance(stream, int):
        return stream is None or stream >= 0 or stream in words
    from supervisor.model.capture import Capture, Tee

    return name != "stdin" and isinstance(stream, (Capture, Tee))


def _cpu_problems(cpus: tuple[int, ...]) -> list[str]:
    from supervisor.model.cpulist import CPU_MAX  # few jobs name processors

    if cpus and 0 <= min(cpus) <= max(cpus) <= CPU_MAX:
        return []
    return [f"cpu_affinity: must name at least one processor, 0 to {CPU_MAX}"]


_NOTHING_TO_CHECK: Final[tuple[object, ...]] = (
    *(None,) * 7,
    frozenset(),
    Credentials(),
    *(None,) * 4,
    (),
    15,
    "mixed",
    DEFAULT_KILL_GRACE_NS,
    0,
)


def grace_ns(given: object) -> int:
    """A grace period in nanoseconds from any spelling of a duration; raises ConfigError."""
    try:
        amount = parse_duration_ns(given)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"kill_grace: {error}") from None
    if amount == float("inf"):
        raise ConfigError("kill_grace: must be finite, or a job that ignores the signal would never end")
    return int(amount)
