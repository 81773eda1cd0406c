# SPDX-License-Identifier: Apache-2.0
"""``supervisor.run_pair``: two jobs piped to each other, as interactive judging needs them."""

from __future__ import annotations

import os

from supervisor.errors import ConfigError
from supervisor.kernel import native
from supervisor.kernel.held_signals import HeldSignals
from supervisor.kernel.native import OUTPUT_END, Engine
from supervisor.kernel.streams import open_pipe
from supervisor.model.pair import FIRST, SECOND, PairOutcome
from supervisor.model.spec import JobSpec
from supervisor.model.value import replace
from supervisor.runtime.execution import Execution
from supervisor.runtime.oneshot import Ground
from supervisor.runtime.request import Text, make_spec, text_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from supervisor.model.outcome import Outcome
    from supervisor.runtime.request import Command

CONNECTED = ("stdin", "stdout", "input")


def run_pair(
    first: Command | JobSpec,
    second: Command | JobSpec,
    *,
    first_options: Mapping[str, Any] | None = None,
    second_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> PairOutcome:
    """Run two commands, each one's standard output piped into the other's standard input, to both their ends.

    ``options`` are :func:`supervisor.run`'s and hold for both; ``first_options`` and ``second_options`` go before
    them for one. A command may be a :class:`JobSpec` that leaves its standard input and output free. Each job has
    limits, a tree and an outcome of its own; when one ends the other goes on until it is done, so give
    at least one of them ``wall_time_max``: two that wait for each other wait for ever.

    Raises :class:`ConfigError` and :class:`UnsupportedError` before anything is started. When the caller is
    interrupted (KeyboardInterrupt, or what the handler of another signal raises) both trees are killed and waited for first.
    """
    (one, one_text), (other, other_text) = (
        _asked(FIRST, first, {**options, **(first_options or {})}),
        _asked(SECOND, second, {**options, **(second_options or {})}),
    )
    with HeldSignals() as held:
        ground = Ground()
        pipes: list[int] = []
        engine = None
        try:
            engine = Engine()
            held.wake(engine)
            pipes += open_pipe()
            pipes += open_pipe()
            ends = ((pipes[2], pipes[1]), (pipes[0], pipes[3]))  # what each reads from and writes to
            connected = [replace(spec, stdin=read, stdout=write) for spec, (read, write) in zip((one, other), ends, strict=True)]
            pair = _drive(_launched(engine, ground, connected, pipes, held), held)
            return replace(pair, first=_decoded(pair.first, one_text), second=_decoded(pair.second, other_text))
        finally:
            if engine is not None:
                engine.close()
            for fd in pipes:
                os.close(fd)
            ground.close()


def _asked(name: str, command: Command | JobSpec, options: dict[str, Any]) -> tuple[JobSpec, Text]:
    """The specification of one, and how what is collected of it is decoded."""
    mode = text_mode(*[options.pop(option, None) for option in ("text", "encoding", "errors", "universal_newlines")])
    taken = [option for option in (*CONNECTED, "capture_output") if options.get(option) not in (None, False)]
    if isinstance(command, JobSpec):
        if options:
            raise ConfigError(f"{name}: a JobSpec says everything itself; change the specification instead")
        taken = [option for option in CONNECTED if getattr(command, option) is not None]
    if taken:
        raise ConfigError(f"{name}: {taken[0]}: standard input and output of a pair are connected to each other")
    return (command if isinstance(command, JobSpec) else make_spec(command, text=mode, **options)), mode


def _decoded(outcome: Outcome, mode: Text) -> Outcome:
    return outcome if mode.encoding is None else replace(outcome, stdout=mode.decode(outcome.stdout), stderr=mode.decode(outcome.stderr))


def _launched(engine: Engine, ground: Ground, specs: list[JobSpec], pipes: list[int], held: HeldSignals) -> list[Execution]:
    """Both on their way, and none of the pipes' ends held by us any more; what fails ends the other too."""
    planned = [(spec, *ground.plan(spec)) for spec in specs]  # what cannot be enforced is known before anything runs
    executions: list[Execution] = []
    try:
        for spec, plan, host in planned:
            executions.append(Execution(engine, spec, plan, host, ground.root))
        for execution in executions:
            execution.launch(held)
    except BaseException:
        _end(executions, held)
        raise
    while pipes:
        os.close(pipes.pop())
    return executions


def _drive(executions: list[Execution], held: HeldSignals) -> PairOutcome:
    try:
        while any(_busy(execution) for execution in executions):
            held.deliver()
            _turn(executions, held)
    except BaseException:
        _end(executions, held)
        raise
    for execution in executions:
        execution.release()
    first, second = executions
    assert first.outcome is not None and second.outcome is not None
    return PairOutcome(first=first.outcome, second=second.outcome, ended_first=_earlier(_end_ns(first), _end_ns(second)))


def _busy(execution: Execution) -> bool:
    return execution.outcome is None or execution.flushing


def _end_ns(execution: Execution) -> int:
    """When a job's end began: at the reaping, or before that, when we ended it. A dying job closes its pipes before
    it can be reaped, so what follows from that may be reaped earlier. 0 for a job that never ran."""
    return min(execution.ended_ns, execution.caused_ns or execution.ended_ns)


def _earlier(first_ns: int, second_ns: int) -> str | None:
    if not first_ns or not second_ns:
        return None
    return FIRST if first_ns <= second_ns else SECOND


def _turn(executions: list[Execution], held: HeldSignals) -> None:
    """One wake-up of the engine: everything it says goes to the job it is about."""
    due = [time for execution in executions if (time := execution.deadline_ns) is not None]
    timeout = max(0, min(due) - native.now_ns()) if due else -1
    by_token = {execution.token: execution for execution in executions}
    for event in executions[0].engine.poll(timeout):
        if held.takes(event):
            continue
        execution = by_token.get(event.token)
        if execution is not None and (event.kind != OUTPUT_END or execution.outcome is None):
            execution.on_event(event)
    now_ns = native.now_ns()
    for execution in executions:
        execution.on_time(now_ns)


def _end(executions: list[Execution], held: HeldSignals) -> None:
    """Kill what runs, wait for it, and give everything back."""
    running = [execution for execution in executions if execution.tree is not None and execution.outcome is None and not execution.ending]
    for execution in running:
        execution.stop(0)
    while any(execution.outcome is None for execution in running):
        _turn(running, held)
    for execution in executions:
        execution.release()
