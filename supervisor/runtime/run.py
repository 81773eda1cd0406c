# SPDX-License-Identifier: Apache-2.0
"""``supervisor.run``: subprocess.run with limits, a verdict and the usage."""

from __future__ import annotations

from supervisor.errors import ConfigError, JobFailed
from supervisor.model.spec import JobSpec
from supervisor.model.value import replace
from supervisor.runtime.oneshot import run_spec
from supervisor.runtime.request import make_spec, text_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.request import Command


def run(
    args: Command | JobSpec,
    *,
    check: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    files: Mapping[str, Any] | None = None,
    collect: str | Iterable[str] = (),
    **options: Any,
) -> Outcome:
    """Run a command (or a :class:`JobSpec`) to its end inside limits and return its :class:`Outcome`.

    Takes ``subprocess.run``'s arguments by their names (``input stdin stdout stderr capture_output text
    encoding errors cwd env check user group umask pass_fds start_new_session timeout``) and ours:
    ``limits`` (a :class:`Limits` or a dict of them), ``best_effort``, ``kill_grace``, ``preexec``,
    ``nice``, ``oom_score_adjust``, ``cpu_affinity``, ``no_new_privileges``. ``stdout=PIPE`` collects.

    ``files`` (name to bytes, or to a Path to copy) and ``collect`` (patterns such as ``"out/*.txt"``) make a work directory for
    the job, at /work in a strict sandbox: what matches at its end is ``outcome.collected``, and the directory is removed.

    A job that breaks a limit, fails or cannot be started is an outcome; with ``check=True`` everything
    but ``ok`` raises :class:`JobFailed`. Raises :class:`ConfigError` for wrong arguments and
    :class:`UnsupportedError` for limits this host cannot enforce, before anything is started. On
    KeyboardInterrupt the job's whole tree is killed before the exception goes on.
    """
    mode = text_mode(text, encoding, errors, universal_newlines)
    if isinstance(args, JobSpec) and options:
        raise ConfigError(f"{next(iter(options))}: a JobSpec says everything itself; change the specification instead")
    if files or collect:
        from supervisor.runtime.files import run_with_files

        outcome = run_with_files(args, mode, files or {}, collect, options)
    else:
        outcome = run_spec(args if isinstance(args, JobSpec) else make_spec(args, text=mode, **options))
    if mode.encoding is not None:
        outcome = replace(outcome, stdout=mode.decode(outcome.stdout), stderr=mode.decode(outcome.stderr))
    if check and not outcome.ok:
        raise JobFailed(outcome)
    return outcome
