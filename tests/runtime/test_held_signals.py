# SPDX-License-Identifier: Apache-2.0
"""Signals whose Python handlers raise: whenever one comes, no job is lost, and what was done before is done.

That no child, no cgroup and no descriptor is left is checked after every test, see conftest.py.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import resource
import signal
import sys
import time
import tracemalloc  # noqa: F401 - pytest would load it when no descriptor is left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from programs import answering, python, sh
from waiting import Line

import supervisor
from supervisor.kernel.held_signals import Handlers, HeldSignals
from supervisor.kernel.native import Engine, ffi, lib
from supervisor.runtime.execution import Execution
from supervisor.runtime.oneshot import Ground, run_execution, run_spec


class Raised(BaseException):
    """What the handlers here raise."""


@pytest.fixture(params=["SIGUSR1", "SIGINT", "SIGRTMAX"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal whose handler raises."""
    with raising(signal.Signals[request.param]) as number:
        yield number


@contextmanager
def raising(number: signal.Signals) -> Iterator[signal.Signals]:
    def handler(*_: object) -> None:
        raise Raised

    before = signal.signal(number, handler)
    try:
        yield number
        assert signal.getsignal(number) is handler, "it is back in its place"
    finally:
        signal.signal(number, before)


@contextmanager
def at_native_call(at: int, act: Callable[[], object], event: str = "c_return", of: str = "sup_") -> Iterator[list[str]]:
    """Act at the call of this number into native code; the calls so far."""
    calls: list[str] = []

    def look(_: object, kind: str, called: Any) -> None:
        if kind == event and called.__name__.startswith(of):
            calls.append(called.__name__)
            if len(calls) == at:
                act()

    sys.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_a_signal_after_any_native_call_of_a_run_raises_and_leaves_nothing(number: signal.Signals) -> None:
    """The one that has just made the child among them."""
    for at in range(1, 1000):
        with at_native_call(at, lambda: signal.raise_signal(number)) as calls:
            if len(calls) < at:
                try:
                    supervisor.run(["true"])
                except Raised:
                    continue
        assert at > 5 and "sup_engine_launch" in calls
        break


def test_a_signal_after_any_native_call_of_a_supervisor_leaves_nothing(number: signal.Signals) -> None:
    """A second Ctrl-C raises in the middle of an event loop's work: the scope still ends every job of its own."""

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        signal.signal(number, handler)  # asyncio has one of its own for Ctrl-C
        async with supervisor.Supervisor() as sup:
            jobs = [await sup.start(["sleep", "0.01"]) for _ in range(2)]
            for job in jobs:
                await job.wait()

    before = signal.getsignal(number)
    for at in range(1, 1000):
        with at_native_call(at, lambda: signal.raise_signal(number)) as calls:
            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                continue
            finally:
                signal.signal(number, before)
        assert at > 10 and "sup_engine_submit" in calls
        break


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [False, True], ids=["run", "run_pair"])
def test_signals_at_random_moments_of_many_starts_leave_nothing(pair: bool) -> None:
    """A timer whose handler raises, aimed at every part of a run; both ends are seen."""
    assert storm(300, 4e-3, lambda: supervisor.run_pair(["true"], ["true"]) if pair else supervisor.run(["true"], input=b"x")) > 20


def storm(count: int, longest: float, work: Callable[[], object]) -> int:
    """Do it so often while a timer's handler raises after up to so many seconds; how often it raised in time."""
    generator = random.Random(20261125)
    raised = 0
    work()  # what is imported at the first time is imported
    with raising(signal.SIGALRM):
        for _ in range(count):
            try:
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-5, longest))
                work()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Raised:
                raised += 1
    return raised


def test_signals_at_random_moments_of_starts_with_python_hooks_leave_nothing() -> None:
    """There the child exists before native code knows it."""
    assert storm(100, 2e-2, lambda: supervisor.run(["true"], preexec=[lambda: None])) > 10


def test_a_python_hook_that_hangs_is_ended_with_its_child(number: signal.Signals) -> None:
    """The child waits in the hook for ever; the handler's exception comes out at once."""
    with Line() as line:
        parent = os.getpid()

        def hang() -> None:
            os.kill(parent, number)
            time.sleep(600)

        begun = time.monotonic()
        with pytest.raises(Raised):
            supervisor.run(["true"], preexec=[hang], pass_fds=[line.end])
        assert time.monotonic() - begun < 60


def test_signals_while_a_failed_start_is_reaped_leave_no_zombie() -> None:
    """A timer's handler interrupts the wait for a child that takes its time to end: it has many descriptors to close."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fds = [os.dup(0) for _ in range(min(soft, 4096) - 200)]
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    ground = Ground()
    try:
        signal.setitimer(signal.ITIMER_REAL, 5e-5, 5e-5)
        for _ in range(100):  # a path below /dev: the child needs every descriptor, as far as we know
            assert run_spec(supervisor.JobSpec(argv=("/dev/null/no",)), ground).verdict == "start_failed"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        ground.close()
        for fd in fds:
            os.close(fd)


# as an ordinary user: the D-Bus library leaves a socket to the collector when it cannot go on
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_without_descriptors_a_forked_child_is_not_left() -> None:
    """Whichever of the launch's descriptors is the first that cannot be had, its pidfd among them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    supervisor.run(["true"], preexec=[lambda: None])  # what is loaded once is loaded
    refused = 0
    for spare in range(64):
        fd = os.dup(0)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + spare, before[1]))
        try:
            outcome = supervisor.run(["true"], preexec=[lambda: None])
            if outcome.ok:
                break
            refused += 1
        except (OSError, supervisor.SupervisorError):
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert 3 < refused < 63


def test_a_signal_right_before_the_wait_is_not_slept_through(number: signal.Signals) -> None:
    """Between our last look and the kernel's: the run ends all the same, long before the job would."""
    begun = time.monotonic()
    with at_native_call(1, lambda: signal.raise_signal(number), event="c_call", of="sup_engine_poll"), pytest.raises(Raised):
        supervisor.run(["sleep", "600"])
    assert time.monotonic() - begun < 30


def test_an_event_loops_own_signals_reach_it_after_a_run_in_it() -> None:
    """asyncio hears of a signal by its wake-up descriptor, which was ours meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, heard.set_result, "heard")
        before = kernel_action(signal.SIGUSR1)
        assert supervisor.run(sh("kill -USR1 $1", os.getpid())).ok
        assert kernel_action(signal.SIGUSR1) == before, "system calls go on after it (SA_RESTART)"
        assert await asyncio.wait_for(heard, 20) == "heard"
        loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())


@pytest.mark.parametrize("above", range(12))
def test_a_wake_up_descriptor_that_was_closed_keeps_nobody_from_anything(above: int) -> None:
    """Python goes on having its number, which is nobody's, or has become one of ours: whichever, the handlers are put back."""
    fds = [os.dup(0) for _ in range(above)]
    ends = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(ends[1])
    for fd in (*fds, *ends):
        os.close(fd)
    try:
        with raising(signal.SIGUSR1), pytest.raises(Raised):
            supervisor.run(sh("kill -USR1 $1; sleep 600", os.getpid()))
    finally:
        signal.set_wakeup_fd(-1)


def kernel_action(number: int) -> list[int]:
    """What the kernel does at the signal: the function, its flags and its mask."""
    action = ffi.new("uint64_t[4]")
    assert lib.sup_read_action(number, action) == 0
    return list(action)


async def test_a_handler_in_native_code_above_one_of_pythons_stays_where_it_is() -> None:
    """faulthandler.register, which Python's own table does not know of."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    faulthandler.register(signal.SIGUSR1, chain=True)
    try:
        action = kernel_action(signal.SIGUSR1)
        supervisor.run(["true"])
        assert kernel_action(signal.SIGUSR1) == action
        async with supervisor.Supervisor() as sup:
            await sup.run(["true"])
        assert kernel_action(signal.SIGUSR1) == action
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_installs_another_one_is_obeyed() -> None:
    """What it put in its place stays there."""
    heard: list[str] = []

    def first(*_: object) -> None:
        heard.append("first")
        signal.signal(signal.SIGUSR1, second)

    def second(*_: object) -> None:
        heard.append("second")

    before = signal.signal(signal.SIGUSR1, first)
    try:
        assert supervisor.run(sh("kill -USR1 $1; sleep 0.2; kill -USR1 $1", os.getpid())).ok
        assert signal.getsignal(signal.SIGUSR1) is second and heard == ["first", "second"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_a_handler_has_installed_is_held_as_well() -> None:
    """The first Ctrl-C asks, the second forces: what the second raises leaves nothing either."""
    live = True

    def first(*_: object) -> None:
        signal.signal(signal.SIGALRM, second)

    def second(*_: object) -> None:
        nonlocal live
        if live:
            live = False  # once a run: a slow machine is still busy with the first when the next one comes
            raise Raised

    before = signal.getsignal(signal.SIGALRM)
    generator, raised = random.Random(20261130), 0
    supervisor.run(["true"])  # a signal while modules are loaded is Python's affair
    try:
        for _ in range(150):
            live = True
            signal.signal(signal.SIGALRM, first)
            signal.setitimer(signal.ITIMER_REAL, 1e-3, generator.uniform(1e-3, 6e-3))
            try:
                supervisor.run(["sleep", "0.004"])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Raised:
                raised += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised > 20


def test_a_handler_that_was_installed_just_now_is_put_back_and_no_other() -> None:
    """Who holds signals often does not look at every one each time."""
    handlers = Handlers()
    before = signal.getsignal(signal.SIGUSR1)
    try:
        for _ in range(100):
            for handler in (lambda *_: None, signal.SIG_IGN, lambda *_: None, signal.SIG_DFL):
                signal.signal(signal.SIGUSR1, handler)
                with HeldSignals(handlers):
                    pass
                assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("no_cgroup")
def test_a_stop_while_the_helper_starts_the_job_keeps_its_grace() -> None:
    """The job may run before we hear that it does: a polite stop in between is a polite stop."""
    code = answering(15, "os._exit(41)")
    with Line() as line, HeldSignals() as held:
        ground = Ground()
        engine = Engine()
        try:
            plan, host = ground.plan(spec := supervisor.JobSpec(argv=python(code, line.end), pass_fds=(line.end,)))
            execution = Execution(engine, spec, plan, host, ground.root)

            def stop() -> None:
                assert line.read() == "ready" and execution.state == "starting"
                execution.stop(20_000_000_000)

            outcome = run_execution(execution, held, on_launch=stop)
        finally:
            engine.close()
            ground.close()
    assert (outcome.verdict, outcome.exit.code) == ("cancelled", 41)
