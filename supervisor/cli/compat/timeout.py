# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat timeout``: GNU timeout's command line on our engine.

What differs: when the command ends, what it left running is ended too, and the signal of a time-out
goes to the whole tree, also to what left the process group.
"""

from __future__ import annotations

import errno
import os

from supervisor.cli.foreground import Foreground, complain, fill_closed_streams, inherited_descriptors, pass_on, print_text
from supervisor.errors import ConfigError, SupervisorError
from supervisor.model.limits import Limits
from supervisor.model.spec import JobSpec
from supervisor.model.timeout_options import SIGKILL, TimeoutOptions, parse_timeout, signal_name, timeout_status
from supervisor.model.units import INFINITY
from supervisor.model.value import replace
from supervisor.runtime.oneshot import Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.execution import Execution

FAILED: Final = 125
NOT_FOUND: Final = 127
SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCONT, SIGSTOP = 1, 2, 3, 15, 18, 19
#: Longer than anybody waits: without --kill-after the command may take its time to end.
FOR_EVER_NS: Final = 1 << 62
USAGE: Final = """usage: ringfence compat timeout [OPTION] DURATION COMMAND [ARG...]

Start COMMAND, and signal it if it is still running after DURATION: a number with a fraction, and s (the
default), m, h or d behind it. 0 is no limit.

  -f, --foreground        only the command itself is signalled, and it may use the terminal
  -k, --kill-after=DURATION  kill it if it is still running this long after the signal
  -p, --preserve-status   exit with the command's status also when it timed out
  -s, --signal=SIGNAL     this signal instead of TERM
  -v, --verbose           say on standard error which signal is sent

exit status: 124 timed out, 125 failed, 126 not executable, 127 not found, 137 had to be killed;
otherwise the command's own"""


def timeout(argv: list[str]) -> int:
    """Run the command line; returns timeout's exit status, or ends this process by the command's own signal."""
    fill_closed_streams()
    try:
        options = parse_timeout(argv)
    except ConfigError as error:
        complain(str(error), "timeout")
        complain("try 'ringfence compat timeout --help' for more information", "timeout")
        return FAILED
    if options.told:
        from supervisor import __version__

        print_text(USAGE if options.told == "help" else f"timeout (ringfence) {__version__}")
        return 0
    if not options.argv[0]:
        complain(f"failed to run command '': {os.strerror(errno.ENOENT)}", "timeout")
        return NOT_FOUND
    try:
        return _Timeout(options).run()
    except SupervisorError as error:
        complain(str(error), "timeout")
    except OSError as error:
        complain(error.strerror or str(error), "timeout")
    return FAILED


class _Timeout:
    """One invocation: its options, and while the command lives, its execution."""

    def __init__(self, options: TimeoutOptions) -> None:
        self._options = options
        self._execution: Execution | None = None

    def run(self) -> int:
        options = self._options
        if not options.foreground:
            try:
                os.setpgid(0, 0)  # as timeout does: a signal to the group from outside reaches us both
            except PermissionError:
                pass  # we lead a session
        ground = Ground()
        foreground = None
        try:
            foreground = Foreground(ground, self._spec(), {SIGHUP, SIGINT, SIGQUIT, SIGTERM, *self._own_signal()})
            self._execution = foreground.execution
            self._execution.observer = self
            outcome = foreground.run(self._on_signal)
        finally:
            if foreground is not None:
                foreground.close()
            ground.close()
        return self._report(outcome)

    def _own_signal(self) -> set[int]:
        return {self._options.signal} - {0, SIGKILL, SIGSTOP}

    def _spec(self) -> JobSpec:
        options = self._options
        duration, kill_after = options.duration_ns, options.kill_after_ns
        grace = 0 if options.signal == SIGKILL else int(kill_after) if 0 < kill_after < INFINITY else FOR_EVER_NS
        return JobSpec(
            argv=options.argv,
            limits=replace(Limits(), wall_time_max=duration if 0 < duration < INFINITY else None),
            pass_fds=inherited_descriptors(),
            kill_signal=options.signal or SIGCONT,  # signal 0 is none; SIGCONT does as little to who runs
            kill_grace_ns=grace,
            limit_grace_ns=grace,
        )

    # ---- while it runs ----

    def state_changed(self, previous: str, state: str) -> None:
        """The execution calls this; nothing hangs on it here."""

    def limit_hit(self, limit: str) -> None:
        """The time is up: say so, and give the signal to the rest of the tree, which timeout does by the group."""
        execution = self._execution
        assert execution is not None
        self._say(self._options.signal)
        if self._options.signal != SIGKILL:
            pass_on(execution, execution.spec.kill_signal, "timeout")  # as timeout does, the command first, and once more with its group
            self._signal_rest(self._options.signal)

    def _on_signal(self, number: int, sender: int) -> None:
        """One that was sent to us is passed on, and lets --kill-after begin; the terminal's keys reached the command as well."""
        execution = self._execution
        assert execution is not None
        self._say(number)
        had_it = sender == 0
        if not had_it:
            pass_on(execution, number, "timeout")
        self._signal_rest(number)
        if 0 < self._options.kill_after_ns < INFINITY and not execution.causes:
            execution.stop(int(self._options.kill_after_ns), signal=0)

    def _signal_rest(self, number: int) -> None:
        execution = self._execution
        assert execution is not None
        if execution.tree is None or self._options.foreground:
            return
        others = [pid for pid in execution.tree.members() if pid != execution.pid]
        for sent in (number, SIGCONT) if number != SIGCONT else (number,):
            if sent:
                for pid in others:
                    _send(pid, sent)
        pass_on(execution, SIGCONT, "timeout")

    def _say(self, number: int) -> None:
        if self._options.verbose:
            complain(f"sending signal {signal_name(number)} to command '{self._options.argv[0]}'", "timeout")

    # ---- how it went ----

    def _report(self, outcome: Outcome) -> int:
        if outcome.error is not None:
            if outcome.error.stage == "exec":
                complain(f"failed to run command '{self._options.argv[0]}': {os.strerror(outcome.error.errno)}", "timeout")
            else:
                complain(outcome.summary(), "timeout")
            return outcome.exit_status()
        execution = self._execution
        assert execution is not None
        timed_out = "wall_time_max" in execution.causes
        signal = outcome.exit.signal
        if outcome.killed and signal == SIGKILL and self._options.signal != SIGKILL:
            self._say(SIGKILL)
        if outcome.exit.core:
            complain("the monitored command dumped core", "timeout")
        if signal is not None and (not timed_out or (signal == SIGKILL and not self._options.foreground)):
            _die_of(signal)
        return timeout_status(outcome.exit.code, signal, timed_out, self._options.preserve_status)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _die_of(number: int) -> None:
    """End as the command did, so that whoever waits for us sees the same signal; without a second core dump."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (SIGKILL, SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
