# SPDX-License-Identifier: Apache-2.0
"""JobSpec: what somebody wants run, before anything is known about the host."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limits import LIMITS, Limits
from supervisor.model.units import parse_duration_ns
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    Text = str | bytes

#: Where a standard stream goes. The numbers are subprocess's, so its constants can be given as well.
PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3
#: Ours: collected in memory and returned with the outcome, or copied through and counted.
COLLECT: Final = -4
RELAY: Final = -5

DEFAULT_KILL_GRACE_NS: Final = 2_000_000_000


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
    ``stderr``: a descriptor of at least 0, ``None`` to inherit, or one of the constants above.
    ``input``: bytes for stdin. ``best_effort``: limits that may be sampled, or lapse, where the host
    cannot enforce them. ``kill_grace_ns``: from the polite signal of a stop to the kill of the tree.
    ``limit_grace_ns``: the same when a limit of time is reached; 0 kills at once.
    ``preexec``: Python callables run in the child before exec, on the slow path (it costs a fork).
    ``die_with_parent``: the job is killed when the supervisor dies. Raises :class:`ConfigError`
    with every problem found.
    """

    argv: tuple[Text, ...]
    env: Mapping[Text, Text] | None = None
    working_directory: Text | None = None
    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    input: bytes | None = None
    limits: Limits = Limits()
    best_effort: frozenset[str] = frozenset()
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
    kill_grace_ns: int = DEFAULT_KILL_GRACE_NS
    limit_grace_ns: int = 0
    die_with_parent: bool = True
    preexec: tuple[Callable[[], object], ...] = ()
    labels: Mapping[str, str] | None = None

    def _check(self) -> None:
        problems = [*_argv_problems(self.argv), *_text_problems(self), *_range_problems(self)]
        if problems:
            raise ConfigError(*problems)
        set_field(self, "argv", tuple(self.argv))


def _argv_problems(argv: Any) -> list[str]:
    if isinstance(argv, (str, bytes)) or not isinstance(argv, (tuple, list)):
        return ["argv: must be a list of texts such as ['sleep', '1'], one item an argument"]
    if not argv or not argv[0]:
        return ["argv: the command is missing"]
    wrong = [item for item in argv if not isinstance(item, (str, bytes))]
    if wrong:
        return [f"argv: every argument must be text or bytes, not {type(wrong[0]).__name__}"]
    if any((0 if isinstance(item, bytes) else "\0") in item for item in argv):
        return ["argv: an argument holds a NUL character, which the kernel cannot pass on"]
    return []


def _text_problems(spec: JobSpec) -> list[str]:
    problems = []
    for name, text in (spec.env or {}).items():
        shown = name if isinstance(name, str) else repr(name)
        if not name or any((ord(c) if isinstance(text_, bytes) else c) in text_ for text_, c in ((name, "="), (name, "\0"), (text, "\0"))):
            problems.append(f"env: {shown[:60]!r} cannot be a variable (empty, or '=' or NUL inside)")
    directory = spec.working_directory
    if directory is not None and (not directory or (0 if isinstance(directory, bytes) else "\0") in directory):
        problems.append("working_directory: must be a path, neither empty nor with a NUL in it")
    return problems


def _range_problems(spec: JobSpec) -> list[str]:
    problems = [
        f"{name}: must lie between {low} and {high}"
        for name, amount, low, high in (
            ("umask", spec.umask, 0, 0o777),
            ("nice", spec.nice, -20, 19),
            ("oom_score_adjust", spec.oom_score_adjust, -1000, 1000),
            ("kill_signal", spec.kill_signal, 1, 64),
        )
        if amount is not None and not low <= amount <= high
    ]
    problems += [f"best_effort: {name!r} is not a limit" for name in sorted(spec.best_effort) if name not in LIMITS]
    problems += [f"pass_fds: {fd!r} is not a descriptor of 3 or more" for fd in spec.pass_fds if not isinstance(fd, int) or fd < 3]
    if spec.input is not None and spec.stdin not in (None, PIPE):
        problems.append("input: needs stdin to be left free, it travels through a pipe of its own")
    return problems


def grace_ns(given: object) -> int:
    """A grace period in nanoseconds from any spelling of a duration; raises ConfigError."""
    try:
        amount = parse_duration_ns(given)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"kill_grace: {error}") from None
    if amount == float("inf"):
        raise ConfigError("kill_grace: must be finite, or a job that ignores the signal would never end")
    return int(amount)
