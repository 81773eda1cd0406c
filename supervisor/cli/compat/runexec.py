# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat runexec``: BenchExec's runexec command line on our engine.

A run without a container: what only a container does is refused by name.
"""

from __future__ import annotations

import os

from supervisor.cli.foreground import Foreground, complain, fill_closed_streams, print_text, write_whole
from supervisor.errors import ConfigError, SupervisorError, UnsupportedError
from supervisor.model.runexec_options import RunexecOptions, parse_runexec
from supervisor.model.runexec_result import format_runexec
from supervisor.model.spec import DEVNULL, STDOUT, JobSpec
from supervisor.model.state import JobState
from supervisor.model.value import replace
from supervisor.runtime.oneshot import Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.execution import Execution

USAGE_STATUS: Final = 2
FAILED: Final = 1
SIGINT, SIGQUIT, SIGTERM = 2, 3, 15
#: A soft limit asks the run to end, and only the hard ones make it.
FOR_EVER_NS: Final = 1 << 62
MARKER: Final = b"\n\n\nWARNING: YOUR LOGFILE WAS TOO LONG, SOME LINES IN THE MIDDLE WERE REMOVED.\n\n\n\n"
SLACK_BYTES: Final = 500
LINE_MAX_BYTES: Final = 65536
#: What runexec calls the limits that a host may not be able to enforce.
OPTION_OF: Final = {"allowed_cpus": "--cores", "allowed_memory_nodes": "--memoryNodes", "memory_max": "--memlimit"}
USAGE: Final = """usage: ringfence compat runexec --no-container [OPTION...] [--] COMMAND [ARG...]

limits: --memlimit BYTES, --timelimit, --softtimelimit, --walltimelimit SECONDS, --cores LIST,
  --memoryNodes LIST, --set-cgroup-value SUBSYSTEM.OPTION=VALUE, --require-cgroup-subsystem SUBSYSTEM
streams: --input FILE (- is ours), --output FILE (output.log), --maxOutputSize BYTES
surroundings: --dir DIR, --skip-cleanup
logging: --quiet, --debug, --version

sizes in B, kB, MB, GB, TB of 1000; times in s, min, h, d. Results as key=value on standard output.
exit status: 0 the run was made, however it ended; 1 failed or refused; 2 wrong usage"""


def runexec(argv: list[str]) -> int:
    """Make one run and print its results; returns runexec's exit status."""
    fill_closed_streams()
    try:
        options = parse_runexec(argv)
        _refuse_container(options)
        if options.told:
            from supervisor import __version__

            print_text(USAGE if options.told == "help" else f"runexec (ringfence) {__version__}")
            return 0
    except ConfigError as error:
        complain(f"error: {error}", "runexec")
        return USAGE_STATUS
    try:
        return _Run(options).run()
    except UnsupportedError as error:
        options_meant = ", ".join([OPTION_OF.get(name, name) for name in error.feature.split(", ")])
        complain(str(UnsupportedError(options_meant, error.missing)), "runexec")
    except SupervisorError as error:
        for line in str(error).splitlines():
            complain(line, "runexec")
    except OSError as error:
        complain(f"{error.filename + ': ' if error.filename else ''}{error.strerror}", "runexec")
    return FAILED


def _refuse_container(options: RunexecOptions) -> None:
    if options.told:
        return
    if options.container_options:
        raise ConfigError(f"--{options.container_options[0]}: runs are made without a container here, which this needs")
    if options.container:
        raise ConfigError("a container is runexec's default, and runs are made without one here: give --no-container")


class _Run:
    """One run: its options, its temporary directory, and while it lives, its execution."""

    def __init__(self, options: RunexecOptions) -> None:
        self._options = options
        self._execution: Execution | None = None
        self._soft_limit_hit = False
        self._temporary = ""
        self._opened: list[int] = []

    def run(self) -> int:
        from datetime import datetime

        options = self._options
        ground = Ground()
        foreground = None
        try:
            self._require(ground)
            foreground = Foreground(ground, self._spec(ground), (SIGTERM, SIGQUIT, SIGINT))
            self._execution = foreground.execution
            self._execution.observer = self
            self._log("Starting command " + _joined(options.argv))
            self._log("Writing output to " + _joined((options.output,)))
            start_time = datetime.now().astimezone().isoformat()
            outcome = foreground.run(self._on_signal)
        finally:
            if foreground is not None:
                foreground.close()
            ground.close()
            for fd in self._opened:
                os.close(fd)
            self._remove_temporary()
        self._report(outcome, start_time)
        return 0

    # ---- what was asked ----

    def _require(self, ground: Ground) -> None:
        there = ground.host.cgroup.controllers if ground.host.cgroup is not None else frozenset()
        for name in self._options.subsystems:
            if name not in there:
                known = ", ".join(sorted(there)) or "none"
                raise UnsupportedError(f"--require-cgroup-subsystem {name}", f"controllers available here: {known}")

    def _spec(self, ground: Ground) -> JobSpec:
        options = self._options
        limits = options.limits
        if limits.memory_max is None and ground.host.cgroup is not None and "memory" in ground.host.cgroup.controllers:
            limits = replace(limits, memory_swap_max=0)  # as runexec: what is swapped out is not measured
        directory = options.directory
        if directory and not os.path.isdir(directory):
            raise ConfigError(f"--dir: {directory} is not a directory")
        return JobSpec(
            argv=options.argv,
            env=self._environment(),
            working_directory=directory or None,
            stdin=self._input(),
            stdout=self._output(),
            stderr=STDOUT,
            limits=limits,
            process_group=True,
            limit_grace_ns=FOR_EVER_NS if options.soft_time_ns is not None else 0,
        )

    def _environment(self) -> dict[str, str]:
        """HOME and the places for temporary files are fresh directories."""
        import tempfile

        self._temporary = tempfile.mkdtemp(prefix="ringfence-run-")
        home, scratch = os.path.join(self._temporary, "home"), os.path.join(self._temporary, "tmp")
        os.mkdir(home)
        os.mkdir(scratch)
        return {**os.environ, "HOME": home, **dict.fromkeys(("TMPDIR", "TMP", "TEMPDIR", "TEMP"), scratch)}

    def _input(self) -> int | None:
        if self._options.input is None:
            return DEVNULL
        return None if self._options.input == "-" else self._open("input", self._options.input, os.O_RDONLY)

    def _output(self) -> int:
        path = self._options.output
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        fd = self._open("output", path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        head = f"{_joined(self._options.argv)}\n\n\n{'-' * 80}\n\n\n".encode("utf-8", "surrogateescape")
        while head:
            head = head[os.write(fd, head) :]
        return fd

    def _open(self, option: str, path: str, flags: int) -> int:
        try:
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise ConfigError(f"--{option}: {path}: {error.strerror}") from None
        self._opened.append(fd)
        return fd

    # ---- while it runs ----

    def state_changed(self, previous: str, state: str) -> None:
        """The execution calls this: the soft limit counts first."""
        soft_ns = self._options.soft_time_ns
        if state == JobState.RUNNING and soft_ns is not None and self._execution is not None:
            self._execution.retime(replace(self._options.limits, cpu_time_max=soft_ns))

    def limit_hit(self, limit: str) -> None:
        """The execution calls this before it asks the run to end: reached, a soft limit gives way to the hard ones, which kill."""
        execution = self._execution
        if self._options.soft_time_ns is None or execution is None:
            return
        if execution.causes == ["cpu_time_max"]:
            self._soft_limit_hit = True
            execution.retime(self._options.limits)
        else:
            execution.kill()

    def _on_signal(self, number: int, sender: int) -> None:
        assert self._execution is not None
        self._execution.stop(0)

    # ---- how it went ----

    def _report(self, outcome: Outcome, start_time: str) -> None:
        if outcome.verdict in ("start_failed", "host_oom", "sandbox_error"):
            complain(f"cannot execute '{self._options.argv[0]}': {outcome.summary()}" if outcome.error else outcome.summary(), "runexec")
        if self._options.max_output_bytes is not None:
            _shrink(self._options.output, self._options.max_output_bytes)
        print_text(format_runexec(outcome, start_time, self._soft_limit_hit).rstrip("\n"))

    def _log(self, text: str) -> None:
        if not self._options.quiet:
            from datetime import datetime

            now = datetime.now()
            write_whole(2, f"{now:%Y-%m-%d %H:%M:%S},{now.microsecond // 1000:03d} - INFO - {text}\n".encode("utf-8", "surrogateescape"))

    def _remove_temporary(self) -> None:
        if self._temporary and self._options.cleanup:
            from contextlib import suppress

            from supervisor.kernel.beneath import remove_tree

            with suppress(OSError):
                remove_tree(self._temporary)


def _joined(argv: tuple[str, ...]) -> str:
    import shlex

    return shlex.join(argv)


def _shrink(path: str, most_bytes: int) -> None:
    """Keep whole lines from both ends of a file that is too long, of a line without end a part; the marker stands for the middle."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size < most_bytes + SLACK_BYTES:
            return
        file.seek(most_bytes // 2)
        file.readline(LINE_MAX_BYTES)  # not all that a program wrote without a line's end
        kept = file.tell()
        file.seek(max(kept, size - most_bytes // 2))
        file.readline()
        tail = file.read()
        file.seek(kept)
        file.write(MARKER + tail)
        file.truncate()
