# SPDX-License-Identifier: Apache-2.0
"""One command in the foreground: what ``ringfence run`` and the command lines of other tools have in common."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum
import os

from supervisor.errors import ConfigError
from supervisor.kernel.native import SIGNAL, Engine
from supervisor.runtime.execution import Execution
from supervisor.runtime.oneshot import run_execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    from supervisor.model.outcome import Outcome
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.oneshot import Ground


SIGCHLD: Final = 17


class Foreground:
    """Owns the engine and the execution of one command, and takes the signals that come for us meanwhile."""

    def __init__(self, ground: Ground, spec: JobSpec, signals: Iterable[int]) -> None:
        """Plans the command on ``ground`` and watches ``signals``, except those that we were started to ignore.

        Raises :class:`ConfigError`, :class:`UnsupportedError` and OSError; nothing is left open then.
        """
        self.engine = Engine()
        _signal.signal(SIGCHLD, _signal.SIG_DFL)  # a caller may have left it ignored, and then nobody can wait for a child
        try:
            plan, host = ground.plan(spec)
            ground.grant(plan)
            ignored = ground.host.ignored_signals  # nohup, and background jobs of a shell: to be ignored by both of us
            self.engine.watch_signals(tuple([number for number in signals if not ignored >> (number - 1) & 1]))
            self.execution = Execution(self.engine, spec, plan, host, ground.root)
        except BaseException:
            self.engine.close()
            raise
        self._adopts = ground.root is None

    def run(
        self,
        on_signal: Callable[[int, int], None],
        on_ready: Callable[[Any], None] | None = None,
        on_launch: Callable[[], None] | None = None,
    ) -> Outcome:
        """Run the command to its end.

        ``on_signal``: the number, and the sender's process id (0: the kernel itself, such as for a key at the
        terminal). ``on_ready``: every other event of the engine that is not the job's.
        """

        def on_event(event: Any) -> None:
            if event.kind == SIGNAL:
                on_signal(event.code, event.detail)
            elif on_ready is not None:
                on_ready(event)

        if not self._adopts:
            return run_execution(self.execution, None, on_event, on_launch)
        # Without a cgroup: what a job sets free by killing its init helper comes to us, and ends with the job.
        from supervisor.kernel.strays import adopt, end_strays

        adopt()
        try:
            return run_execution(self.execution, None, on_event, on_launch)
        finally:
            end_strays()

    def close(self) -> None:
        """Release the engine; the signals do what they did before."""
        self.engine.close()


def pass_on(execution: Execution, number: int, name: str = "ringfence") -> None:
    """Send the signal to the command; one that is another user's by now (sudo, su) runs on, and we say so."""
    try:
        execution.signal(number)
    except PermissionError as error:
        complain(f"signal {number} could not be passed on to the command: {error.strerror}", name)


def fill_closed_streams() -> set[int]:
    """Standard descriptors that were closed get /dev/null, so that nothing else lands on them; returns which."""
    closed = set()
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            os.open(os.devnull, os.O_RDWR)
    return closed


def inherited_descriptors() -> tuple[int, ...]:
    """Descriptors above the standard ones that our caller passed on; our own are all close-on-exec."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            continue  # the one that listed
    return tuple(sorted(found))


def print_text(text: str) -> None:
    """Write it and a line end to standard output; raises :class:`ConfigError` when that cannot be."""
    try:
        write_whole(1, (text + "\n").encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ConfigError(f"standard output: {error.strerror}") from None


def complain(text: str, name: str = "ringfence") -> None:
    """Say one line on standard error, if anybody listens."""
    try:
        write_whole(2, f"{name}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def write_whole(fd: int, raw: bytes) -> None:
    """All of it, also where a command that shared the stream has left it non-blocking (ssh and Node do)."""
    while raw:
        try:
            raw = raw[os.write(fd, raw) :]
        except BlockingIOError:
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
