# SPDX-License-Identifier: Apache-2.0
"""subprocess-shaped arguments to a JobSpec: shared by ``run`` and ``Supervisor.start``."""

from __future__ import annotations

import codecs
import os

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits, tighten
from supervisor.model.spec import COLLECT, DEFAULT_KILL_GRACE_NS, PIPE, STDOUT, Credentials, JobSpec, goes_to, grace_ns
from supervisor.model.value import replace, value

NoneType = type(None)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO, Any, Final

    from supervisor.kernel.pty import PseudoTerminal
    from supervisor.model.capture import Capture, OutputStream, Tee
    from supervisor.model.policy.policy import Policy
    from supervisor.model.sandbox import Sandbox

    Command = Sequence[str | bytes | os.PathLike[str]] | str | bytes | os.PathLike[str]
    Stream = int | IO[Any] | None
    Output = int | IO[Any] | Capture | Tee | None


@value
class Text:
    """How collected output is decoded: None of both means bytes."""

    encoding: str | None = None
    errors: str | None = None

    def decode(self, raw: Any) -> Any:
        """Bytes as text with ``\\n`` line ends, as subprocess does; anything else unchanged."""
        if self.encoding is None or not isinstance(raw, bytes):
            return raw
        return raw.decode(self.encoding, self.errors or "strict").replace("\r\n", "\n").replace("\r", "\n")


#: One for all: it is part of what remembered specifications are looked up by.
BYTES: Final = Text()


def text_mode(text: bool | None, encoding: str | None, errors: str | None, universal_newlines: bool | None = None) -> Text:
    """subprocess's rule: any of the arguments asks for text, in the locale's encoding unless named.

    Raises :class:`ConfigError` for an encoding or an error handler that Python does not know.
    """
    if not (text or encoding or errors or universal_newlines):
        return BYTES
    if encoding is None:
        import locale

        encoding = locale.getpreferredencoding(False)
    try:
        b"a".decode(encoding)  # not of nothing: Python looks no codec up for that
        codecs.lookup_error(errors or "strict")
    except LookupError as error:
        raise ConfigError(f"encoding: {error}") from None
    return Text(encoding=encoding, errors=errors)


#: Arguments whose meaning is their value alone: not files, which may be closed and opened again or written anew, nor names of users.
PLAIN_TYPES: Final = frozenset({Limits, int, bool, float, str, NoneType})
TIED_TO_SYSTEM: Final = frozenset({"user", "group", "extra_groups", "policy"})
SPECS_KEPT: Final = 64
#: Nobody starts one command with a book in its arguments a thousand times; what is kept stays small.
KEPT_MAX_CHARACTERS: Final = 4096
_specs: dict[object, JobSpec] = {}


def spec_for(args: Command, text: Text, options: Mapping[str, Any], pipes: bool = False) -> JobSpec:
    """:func:`make_spec`, remembered: whoever starts one command a thousand times gets one specification, checked once."""
    key = _key_of(args, text, options, pipes)
    if key is None:
        return make_spec(args, text=text, pipes=pipes, **options)
    spec = _specs.get(key)
    if spec is None:
        spec = make_spec(args, text=text, pipes=pipes, **options)
        if len(_specs) >= SPECS_KEPT:
            _specs.clear()
        _specs[key] = spec
    return spec


def _key_of(args: Command, text: Text, options: Mapping[str, Any], pipes: bool) -> object | None:
    """Equal only for equal arguments of equal types; None for what cannot be remembered, or is large."""
    if type(args) is not list or not TIED_TO_SYSTEM.isdisjoint(options) or options.get("input"):
        return None
    items = []
    for name, item in options.items():
        kind = type(item)
        if kind not in PLAIN_TYPES and kind is not bytes:
            return None
        items.append((name, kind, item))
    size = 0
    for item in args:
        if type(item) is not str:
            return None
        size += len(item)
    if size > KEPT_MAX_CHARACTERS:
        return None
    return (tuple(args), text, pipes, tuple(items))


def make_spec(
    args: Command,
    *,
    limits: Limits | Mapping[str, Any] | None = None,
    best_effort: Iterable[str] = (),
    policy: Policy | str | None = None,
    sandbox: Any = None,
    stdin: Stream = None,
    stdout: Output = None,
    stderr: Output = None,
    input: bytes | str | None = None,
    capture_output: bool = False,
    text: Text = Text(),
    pipes: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | bytes | os.PathLike[str] | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    umask: int | None = None,
    pass_fds: Iterable[int] = (),
    start_new_session: bool = False,
    process_group: int | None = None,
    preexec: Iterable[Callable[[], object]] = (),
    nice: int | None = None,
    oom_score_adjust: int | None = None,
    cpu_affinity: Iterable[int] | None = None,
    no_new_privileges: bool = False,
    kill_signal: int = 15,
    kill_mode: str = "mixed",
    kill_grace: Any = None,
    die_with_parent: bool = True,
    timeout: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> JobSpec:
    """Build the specification of one job from the arguments of ``subprocess`` and ours.

    ``policy`` and the other arguments combine to the tighter of each. ``pipes``: PIPE gives the caller an end of a
    pipe; without it output is collected and input is ``input`` or empty. Raises :class:`ConfigError` with every
    problem found, :class:`UnsupportedError` for a user this process may not become.
    """
    under = None if policy is None else _policy(policy)
    if capture_output and (stdout is not None or stderr is not None):
        raise ConfigError("capture_output: cannot be combined with stdout or stderr")
    if pipes and text.encoding is not None and any(goes_to(stream, PIPE) for stream in (stdin, stdout, stderr)):
        raise ConfigError("text: pipes carry bytes; decode what you read, or collect the output (capture_output=True)")
    if process_group not in (None, 0):
        raise ConfigError("process_group: only 0, a group of its own, is supported")
    made = limits if isinstance(limits, Limits) else _limits(limits or {})
    if under is not None:
        made, best_effort = tighten(under.limits, made), under.best_effort.union(best_effort)
    if timeout is not None:
        made = tighten(made, Limits(wall_time_max=timeout))
    confined = _confined(sandbox, under)
    credentials = Credentials()
    if (user, group, extra_groups) != (None, None, None):
        from supervisor.kernel.accounts import home_environment, resolve

        credentials = resolve(user, group, None if extra_groups is None else tuple(extra_groups))
        if user is not None and env is None and not (confined is not None and confined.clear_env):
            env = {**os.environ, **home_environment(user)}
    if confined is not None and confined.clear_env and env is not None:
        env = _without_ours(env, confined)
    if confined is not None and cwd is None:
        cwd = _covered_directory(confined)
    grace = None if kill_grace is None else grace_ns(kill_grace)
    return JobSpec(
        argv=_argv(args),
        env=env,
        working_directory=None if cwd is None else os.fspath(cwd),
        stdin=_stream("stdin", stdin, pipes),
        stdout=COLLECT if capture_output else _output("stdout", stdout, pipes),
        stderr=COLLECT if capture_output else _output("stderr", stderr, pipes),
        input=b"" if stdin == PIPE and input is None and not pipes else _input(input, text),  # as subprocess.run: the end at once
        limits=made,
        best_effort=frozenset(best_effort),
        sandbox=confined,
        credentials=credentials,
        umask=umask,
        nice=nice,
        oom_score_adjust=oom_score_adjust,
        cpu_affinity=None if cpu_affinity is None else tuple(cpu_affinity),
        no_new_privileges=no_new_privileges,
        start_new_session=start_new_session,
        process_group=process_group == 0,
        pass_fds=tuple(pass_fds),
        kill_signal=kill_signal,
        kill_mode=kill_mode,
        kill_grace_ns=DEFAULT_KILL_GRACE_NS if grace is None else grace,
        limit_grace_ns=0 if grace is None else grace,
        die_with_parent=die_with_parent,
        preexec=tuple(preexec),
        labels=labels,
    )


def _policy(given: Policy | str) -> Policy:
    if not isinstance(given, str):
        return given
    from supervisor.kernel.policy_files import load_policy

    return load_policy(given)


def _confined(sandbox: Any, under: Policy | None) -> Sandbox | None:
    """What the caller and the policy ask for together; None for no sandbox at all."""
    asked = None if sandbox == "none" and (under is None or under.sandbox is None) else sandbox
    if under is not None and under.sandbox is not None:
        from supervisor.model.policy.stricter import sandbox_for

        made = sandbox_for(under.sandbox, asked)
        return None if made.level == "none" else made
    if asked is None:
        return None
    from supervisor.model.sandbox import parse_sandbox

    return parse_sandbox(asked)


def _covered_directory(sandbox: Sandbox) -> str | None:
    """Our own working directory where the sandbox shows it too; None leaves the choice to the sandbox."""
    try:
        own = os.getcwd()
    except FileNotFoundError:
        if sandbox.level == "strict":
            return None
        raise ConfigError("cwd: the working directory of this process was removed; name one for the job") from None
    if sandbox.level != "strict":
        return own
    for place in reversed((*sandbox.bind, *sandbox.overlay)):  # a later one covers those before it
        if own == place.target or own.startswith(place.target + "/"):
            return own if os.path.isdir(place.source + own[len(place.target) :]) else None
    return None


def _without_ours(env: Mapping[str, str], sandbox: Sandbox) -> Mapping[str, str]:
    """What a clean environment takes of ours with something added: what was added, and what the sandbox keeps."""
    from supervisor.model.confine import CLEAN_ENV
    from supervisor.model.environment import OwnEnvironment

    if not isinstance(env, OwnEnvironment):
        return env
    kept = {name: os.environ[name] for name in sandbox.keep_env if name in os.environ}
    return {**{name.decode(): text.decode() for name, text in CLEAN_ENV.items()}, **kept, **env.added}


def _limits(given: Mapping[str, Any]) -> Limits:
    unknown = [name for name in given if name not in LIMITS]
    if unknown:
        from supervisor.model.spelling import nearest

        raise ConfigError(*(f"limits: {name!r} is not a limit{nearest(str(name), LIMITS)}" for name in unknown))
    return Limits(**given)


def _argv(args: Command) -> tuple[str | bytes, ...]:
    if isinstance(args, (str, bytes, os.PathLike)):
        return (os.fspath(args),)
    try:
        return tuple([item if isinstance(item, (str, bytes)) else os.fspath(item) for item in args])
    except TypeError:
        raise ConfigError("argv: must be a list of texts such as ['sleep', '1'], one item an argument") from None


def _output(name: str, stream: Output, pipes: bool) -> OutputStream:
    if stream is not None and not isinstance(stream, int):
        from supervisor.model.capture import Capture, Tee

        if isinstance(stream, Tee):
            return stream if pipes else stream.collecting()
        if isinstance(stream, Capture):
            return stream
    return _stream(name, stream, pipes)


def _stream(name: str, stream: Stream, pipes: bool) -> int | None:
    if stream is None or isinstance(stream, int):
        if isinstance(stream, int) and (stream < -5 or isinstance(stream, bool)):
            raise ConfigError(f"{name}: {stream!r} is not a descriptor")
        if stream == STDOUT and name != "stderr":
            raise ConfigError(f"{name}: STDOUT has a meaning for stderr only")
        return COLLECT if stream == PIPE and name != "stdin" and not pipes else stream
    fileno = getattr(stream, "fileno", None)
    if fileno is None:
        raise ConfigError(f"{name}: must be a descriptor, a file, a constant, or for output a Capture or Tee, not {type(stream).__name__}")
    return int(fileno())


def open_terminal(asked: object, spec: JobSpec) -> PseudoTerminal:
    """For ``pty=True`` or ``pty=(rows, columns)``; raises :class:`ConfigError`, OSError when there is no terminal to be had."""
    from supervisor.kernel.pty import PseudoTerminal

    given = [name for name in ("stdin", "stdout", "stderr", "input") if getattr(spec, name) is not None]
    if given:
        raise ConfigError(f"pty: the job's streams are its terminal, so {given[0]} cannot be given")
    if asked is True:
        return PseudoTerminal()
    if isinstance(asked, (tuple, list)) and len(asked) == 2:
        return PseudoTerminal(*asked)
    raise ConfigError(f"pty: must be True or (rows, columns), not {asked!r}")


def on_terminal(spec: JobSpec, terminal: PseudoTerminal) -> JobSpec:
    """The same job with the terminal for its streams."""
    side = terminal.slave
    return replace(spec, stdin=side, stdout=side, stderr=side, controlling_terminal=side)


def _input(given: bytes | str | None, text: Text) -> bytes | None:
    if given is None:
        return None
    if isinstance(given, str):
        if text.encoding is None:
            raise ConfigError("input: is text, so text=True or an encoding is needed; or give bytes")
        return given.encode(text.encoding, text.errors or "strict")
    return bytes(given)
