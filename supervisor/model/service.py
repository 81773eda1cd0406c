# SPDX-License-Identifier: Apache-2.0
"""ServiceSpec: a command to be kept running, under systemd's names."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.check import ASKING, FdCheck, LogCheck, take_seconds
from supervisor.model.spec import COLLECT, KILL_MODES, PIPE, JobSpec, goes_to, passes_through_us
from supervisor.model.units import INFINITY, parse_bytes
from supervisor.model.value import replace, set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from supervisor.model.check import Check, Health

TYPES: Final = ("simple", "exec", "notify", "oneshot")
RESTARTS: Final = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
NOTIFY_ACCESS: Final = ("all", "main", "none")
NAME_MAX: Final = 128
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@")
REPLICAS_MAX: Final = 100_000
SIGNALS_MAX: Final = 64

#: Numbers of signal(7) on Linux; the module signal is not for the pure layers.
SIGNALS: Final = {
    name: number
    for number, name in enumerate(
        (
            "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM "
            "SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO "
            "SIGPWR SIGSYS"
        ).split(),
        1,
    )
}


@value
class Recovery:
    """What may be done about failures that another attempt, or other limits, can mend.

    ``start_retries``: further attempts, in a row, when a start failed for a passing reason of the host (EAGAIN, ENOMEM, EMFILE,
    EBUSY ...), whatever ``restart`` says; a missing program or permission is never tried again. ``memory_factor``: after
    ``memory_limit`` the next run gets that many times the memory limits, up to ``memory_ceiling`` (bytes, or a size such as
    ``"1G"``); 1 changes nothing, and then the restart policy decides alone.
    """

    start_retries: int = 3
    memory_factor: float = 1.0
    memory_ceiling: Any = None

    def _check(self) -> None:
        problems = []
        if not isinstance(self.start_retries, int) or isinstance(self.start_retries, bool) or self.start_retries < 0:
            problems.append("recovery.start_retries: must be a whole number of at least 0")
        factor = self.memory_factor
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not 1 <= factor <= 1000:
            problems.append("recovery.memory_factor: must lie between 1 and 1000")
        if self.memory_ceiling is not None:
            try:
                set_field(self, "memory_ceiling", parse_bytes(self.memory_ceiling))
            except ValueError as error:
                problems.append(f"recovery.memory_ceiling: {error}")
        elif not problems and factor > 1:
            problems.append("recovery.memory_ceiling: is needed with memory_factor, or the limit would grow for ever")
        if problems:
            raise ConfigError(*problems)


@value
class ServiceSpec:
    """A command kept running: how it starts, when it is ready, when it is restarted, how it stops.

    ``exec_start``: the command as a list of texts, or a :class:`JobSpec` that says everything about it (limits, environment,
    user, streams). The other ``exec_`` commands are lists of texts and run as that one does. ``type``: ``simple`` and ``exec`` are
    up when the program runs, ``notify`` when it says ``READY=1``, ``oneshot`` when it has exited 0. ``ready``: another way to find
    out. ``*_sec`` are durations in any spelling (``"100ms"``, 5, ``"infinity"``) and kept as seconds. ``*_exit_status`` hold exit
    codes and names of signals. ``kill_mode``: ``control-group`` sends the stop signal to the whole tree, ``mixed`` to the main process;
    what is left when ``timeout_stop_sec`` is over, or when the main process has ended, is killed. ``restart_on_limit``: whether a
    run that broke one of its limits is restarted, ``None`` for what ``restart`` says. ``restart_jitter_sec``: a random time up to
    this is added to every delay; ``restart_reset_sec``: delays begin anew after a run that was up for so long. Raises
    :class:`ConfigError` with every problem found.
    """

    name: str
    exec_start: Any
    exec_start_pre: Sequence[Sequence[str | bytes]] = ()
    exec_reload: Sequence[str | bytes] | None = None
    exec_stop: Sequence[str | bytes] | None = None
    exec_stop_post: Sequence[Sequence[str | bytes]] = ()
    type: str = "simple"
    remain_after_exit: bool = False
    ready: Check | None = None
    notify_access: str = "all"
    restart: str = "no"
    restart_sec: Any = 0.1
    restart_steps: int = 0
    restart_max_delay_sec: Any = INFINITY
    restart_jitter_sec: Any = 0.0
    restart_reset_sec: Any = 30.0
    restart_on_limit: bool | None = None
    success_exit_status: Sequence[int | str] = ()
    restart_prevent_exit_status: Sequence[int | str] = ()
    restart_force_exit_status: Sequence[int | str] = ()
    start_limit_interval_sec: Any = 10.0
    start_limit_burst: int = 5
    timeout_start_sec: Any = None
    timeout_stop_sec: Any = 90.0
    watchdog_sec: Any = 0.0
    watchdog_signal: Any = "SIGABRT"
    kill_signal: Any = "SIGTERM"
    reload_signal: Any = None
    kill_mode: str = "control-group"
    requires: Sequence[str] = ()
    after: Sequence[str] = ()
    replicas: int = 1
    health: Health | None = None
    recovery: Recovery = Recovery()

    def _check(self) -> None:
        problems = [
            *_name_problems("name", self.name),
            *_command_problems(self),
            *_word_problems(self),
            *_time_problems(self),
            *_signal_problems(self),
            *_status_problems(self),
            *_count_problems(self),
            *_relation_problems(self),
        ]
        if not problems:
            problems = _conflicts(self)
        if problems:
            raise ConfigError(*problems, source=f"service {self.name}" if isinstance(self.name, str) else "service")
        job: JobSpec = self.exec_start
        grace_ns = round(self.timeout_stop_sec * 1e9)
        set_field(self, "exec_start", replace(job, kill_signal=self.kill_signal, kill_mode=self.kill_mode, kill_grace_ns=grace_ns))

    @property
    def job(self) -> JobSpec:
        """The specification of each run's job; its stop is the service's own."""
        made: JobSpec = self.exec_start
        return made

    @property
    def notifies(self) -> bool:
        """The service gets a notification socket."""
        return self.notify_access != "none" and (self.type == "notify" or self.watchdog_sec > 0)


def _name_problems(key: str, name: object) -> list[str]:
    if not isinstance(name, str) or not name:
        return [f"{key}: must be a text such as 'web'"]
    if len(name) > NAME_MAX or not NAME_CHARACTERS.issuperset(name) or name.startswith("."):
        return [f"{key}: {name[:40]!r} may hold letters, digits and - _ . @ only, at most {NAME_MAX}, and not begin with a dot"]
    return []


def _command_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    if not isinstance(spec.exec_start, JobSpec):
        try:
            set_field(spec, "exec_start", JobSpec(argv=spec.exec_start))
        except ConfigError as error:
            problems += [problem.replace("argv", "exec_start", 1) for problem in error.problems]
    for key in ("exec_start_pre", "exec_stop_post"):
        commands: Any = getattr(spec, key)
        if not isinstance(commands, (list, tuple)):
            problems.append(f"{key}: must be a list of commands, each a list of texts")
            continue
        set_field(spec, key, tuple([_argv(command, key, problems) for command in commands]))
    for key in ("exec_reload", "exec_stop"):
        if (command := getattr(spec, key)) is not None:
            set_field(spec, key, _argv(command, key, problems))
    return problems


def _argv(command: Any, key: str, problems: list[str]) -> tuple[str | bytes, ...]:
    try:
        return tuple(JobSpec(argv=command).argv)
    except ConfigError as error:
        problems += [problem.replace("argv", key, 1) for problem in error.problems]
        return ()


def _word_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    for key, words in (("type", TYPES), ("restart", RESTARTS), ("kill_mode", KILL_MODES), ("notify_access", NOTIFY_ACCESS)):
        given = getattr(spec, key)
        if given not in words:
            reason = "; nothing may outlive its service" if key == "kill_mode" and given in ("process", "none") else ""
            problems.append(f"{key}: {given!r} is none of {', '.join(words)}{reason}")
    return problems


def check_replicas(replicas: object) -> None:
    """Raises :class:`ConfigError` for what is no number of replicas."""
    if problems := _number_problems("replicas", replicas, 0, REPLICAS_MAX):
        raise ConfigError(*problems)


def _time_problems(spec: ServiceSpec) -> list[str]:
    if spec.timeout_start_sec is None:  # systemd.service(5): a oneshot has no time-out unless it is given one
        set_field(spec, "timeout_start_sec", INFINITY if spec.type == "oneshot" else 90.0)
    finite = {"restart_sec", "restart_jitter_sec", "start_limit_interval_sec", "timeout_stop_sec"}
    keys = ("restart_max_delay_sec", "restart_reset_sec", "timeout_start_sec", "watchdog_sec", *sorted(finite))
    problems = []
    for key in keys:
        problems += take_seconds(spec, key, key, finite=key in finite)
    if spec.watchdog_sec == INFINITY:
        set_field(spec, "watchdog_sec", 0.0)
    return problems


def _signal_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    for key in ("kill_signal", "watchdog_signal", "reload_signal"):
        given = getattr(spec, key)
        if given is None and key == "reload_signal":
            continue
        number = signal_number(given)
        if number is None:
            problems.append(f"{key}: {given!r} is not a signal such as SIGTERM or 15")
        else:
            set_field(spec, key, number)
    return problems


def signal_number(given: object) -> int | None:
    """The number of a signal given as ``SIGTERM``, ``TERM``, or 15; None for anything else."""
    if isinstance(given, str):
        return SIGNALS.get(given if given.startswith("SIG") else f"SIG{given}")
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= SIGNALS_MAX:
        return int(given)
    return None


def _status_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    for key in ("success_exit_status", "restart_prevent_exit_status", "restart_force_exit_status"):
        given: Any = getattr(spec, key)
        if not isinstance(given, (list, tuple)):
            problems.append(f"{key}: must be a list of exit codes and names of signals")
            continue
        wrong = [
            item
            for item in given
            if not (isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= 255)
            and not (isinstance(item, str) and signal_number(item) is not None)
        ]
        problems += [f"{key}: {item!r} is neither an exit code, 0 to 255, nor the name of a signal" for item in wrong]
        set_field(spec, key, tuple(given))
    return problems


def _count_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    for key, least, most in (("restart_steps", 0, 1_000_000), ("start_limit_burst", 0, 1_000_000), ("replicas", 0, REPLICAS_MAX)):
        problems += _number_problems(key, getattr(spec, key), least, most)
    return problems


def _number_problems(key: str, given: object, least: int, most: int) -> list[str]:
    if isinstance(given, int) and not isinstance(given, bool) and least <= given <= most:
        return []
    return [f"{key}: must be a whole number between {least} and {most}"]


def _relation_problems(spec: ServiceSpec) -> list[str]:
    problems = []
    for key in ("requires", "after"):
        given: Any = getattr(spec, key)
        if not isinstance(given, (list, tuple)):
            problems.append(f"{key}: must be a list of names of services")
            continue
        for name in given:
            problems += _name_problems(key, name)
            if name == spec.name:
                problems.append(f"{key}: a service cannot wait for itself")
        set_field(spec, key, tuple(given))
    return problems


def _conflicts(spec: ServiceSpec) -> list[str]:
    """What is right alone and wrong together."""
    problems = []
    job: JobSpec = spec.exec_start
    if spec.type == "oneshot" and spec.restart in ("always", "on-success"):
        problems.append(f"restart: {spec.restart} would run a oneshot for ever; use on-failure, or another type")
    if spec.type == "oneshot" and (spec.ready is not None or spec.watchdog_sec or spec.health is not None):
        problems.append("type: a oneshot is over when it is ready, so it has no ready, watchdog_sec and health")
    if spec.type == "notify" and spec.ready is not None:
        problems.append("ready: a service of type notify says itself when it is ready; use another type")
    if spec.type == "notify" and spec.notify_access == "none":
        problems.append("notify_access: none forbids the only word that makes a service of type notify ready")
    if spec.watchdog_sec and spec.notify_access == "none":
        problems.append("notify_access: none forbids the signs of life that watchdog_sec waits for")
    ready: Any = spec.ready
    if ready is not None and not isinstance(ready, (FdCheck, LogCheck, *ASKING)):
        problems.append("ready: must be an FdCheck, a LogCheck, a TcpCheck, an HttpCheck or an ExecCheck")
    if spec.restart_steps and spec.restart_max_delay_sec == INFINITY:
        problems.append("restart_max_delay_sec: is needed with restart_steps: it is where the steps lead")
    if job.stdin == PIPE or goes_to(job.stdout, PIPE) or goes_to(job.stderr, PIPE):
        problems.append("exec_start: a service outlives whoever holds the other end of a pipe; give descriptors or files")
    if (goes_to(job.stdout, COLLECT) or goes_to(job.stderr, COLLECT)) and job.limits.output_max is None:
        problems.append("exec_start: collected output of a service grows for ever; give it a file or a descriptor, or set output_max")
    if isinstance(spec.ready, LogCheck) and (passes_through_us(job.stdout) or passes_through_us(job.stderr)):
        problems.append(
            "ready: a log line can be found in output for a file or a descriptor, not in what is collected, captured or relayed"
        )
    return problems
