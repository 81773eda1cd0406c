# SPDX-License-Identifier: Apache-2.0
"""The ``async with Supervisor()`` scope: it ends when every job is gone, however it is left."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from programs import answering, python, sh
from waiting import Line

import supervisor
from supervisor import ClosedError, ConfigError, JobFailed, Outcome, Service, ServiceSpec, Supervisor
from supervisor.runtime.execution import Execution
from supervisor.runtime.waiter import Waiter

pytestmark = pytest.mark.usefixtures("holder")
DEAF = "import os, signal, sys\nsignal.signal(15, signal.SIG_IGN)\nos.write(int(sys.argv[1]), b'ready\\n')\nwhile True: signal.pause()"
POLITE = answering(15, "sys.exit(0)")


async def test_leaving_the_scope_stops_politely_what_still_runs() -> None:
    """SIGTERM first, and the job may end by itself within its grace."""
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(python(POLITE, line.end), pass_fds=[line.end], kill_grace=20)
            line.read()
            assert sup.jobs == (job,)
        assert job.outcome is not None
        assert (job.outcome.verdict, job.outcome.exit.code) == ("cancelled", 0)
        line.wait_closed(timeout=1)


async def test_leaving_the_scope_kills_the_deaf_after_their_grace() -> None:
    """0.2 s, and the scope ends."""
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(python(DEAF, line.end), pass_fds=[line.end], kill_grace=0.2)
            line.read()
        assert job.outcome is not None and job.outcome.exit.signal == 9
        line.wait_closed(timeout=1)


async def test_leaving_on_an_exception_kills_at_once_and_the_exception_goes_on() -> None:
    """No grace for anybody: a deaf job with a grace of a minute does not hold the error up."""
    with Line() as line:
        with pytest.raises(ZeroDivisionError):
            async with Supervisor() as sup:
                job = await sup.start(python(DEAF, line.end), pass_fds=[line.end], kill_grace=60)
                line.read()
                raise ZeroDivisionError
        assert job.outcome is not None and job.outcome.verdict == "cancelled"
        line.wait_closed(timeout=1)


@pytest.mark.parametrize("number", [0, -1, 65, "TERM", 2**40])
async def test_what_is_no_signal_is_refused_and_the_job_runs_on(number: Any) -> None:
    """It is not on its way to its end, with nobody who ends it."""
    async with Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        with pytest.raises(ConfigError, match="signal"):
            await job.terminate(signal=number)
        assert job.state == "running"
        assert (await job.terminate(signal=10)).exit.signal == 10


async def test_cancelling_run_kills_the_job_before_the_cancellation_goes_on() -> None:
    """asyncio.timeout around sup.run leaves nothing running."""
    with Line() as line:
        async with Supervisor() as sup:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await sup.run(python(DEAF, line.end), pass_fds=[line.end], kill_grace=60)
            assert sup.jobs == ()
            line.wait_closed(timeout=1)


async def test_run_checks_as_the_run_without_a_loop_does() -> None:
    async with Supervisor() as sup:
        assert (await sup.run(["true"], check=True)).ok
        with pytest.raises(JobFailed) as caught:
            await sup.run(sh("exit 3"), check=True)
    assert caught.value.outcome.exit.code == 3


async def test_cancelling_start_kills_what_was_being_started() -> None:
    """Cancelled in the very tick of the launch."""
    with Line() as line:
        async with Supervisor() as sup:
            task = asyncio.create_task(sup.start(python(DEAF, line.end), pass_fds=[line.end]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        line.wait_closed(timeout=1)


async def test_cancelling_the_way_into_the_scope_leaves_nothing() -> None:
    """Its place in the cgroup tree is being made in a thread meanwhile: that is given back (see nothing_is_left)."""
    entering = asyncio.create_task(Supervisor().__aenter__())
    await asyncio.sleep(0)  # it runs up to its first wait
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering


async def test_cancelling_a_waiter_leaves_the_job_alone() -> None:
    """Others still wait for it, and it still runs."""
    async with Supervisor() as sup:
        with Line() as go:
            job = await sup.start(python("import os; os.read(0, 1)"), stdin=go._read)
            waiters = [asyncio.create_task(job.wait()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters[0].cancel()
            await asyncio.sleep(0)
            assert job.state == "running"
            go.release()
            outcomes = await asyncio.gather(*waiters[1:])
    assert [outcome.verdict for outcome in outcomes] == ["ok", "ok"]
    assert waiters[0].cancelled()


async def test_who_looks_again_and_again_leaves_nothing_each_time() -> None:
    """``wait_for(job.wait(), 1)`` in a loop is how one waits for several things; so it is for a service and for room in a pipe."""

    def waiting() -> int:
        gc.collect()
        return sum(isinstance(found, (asyncio.Future, Waiter)) for found in gc.get_objects())

    async with Supervisor() as sup, Service(sup, ServiceSpec(name="web", exec_start=["sleep", "60"])) as service:
        job = await sup.start(["sleep", "60"], stdin=subprocess.PIPE)
        assert job.stdin is not None
        job.stdin.write(bytes(1 << 20))
        waits: list[Callable[[], Coroutine[Any, Any, object]]] = [job.wait, job.stdin.drain, job.stdin.wait_closed, service.wait]
        before = waiting()
        for wait in waits * 20:
            task = asyncio.create_task(wait())
            await asyncio.sleep(0)  # it runs up to its wait
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert waiting() - before < len(waits)  # the last one may not be collected yet
        await job.kill()


async def test_cancelling_terminate_does_not_take_the_request_back() -> None:
    """The grace runs on and the job ends."""
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(python(DEAF, line.end), pass_fds=[line.end])
            line.read()
            task = asyncio.create_task(job.terminate(grace=0.3))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await job.wait()).verdict == "cancelled"


async def test_cancelling_the_end_of_the_scope_finishes_it_all_the_same() -> None:
    """A second impatience: everything is killed at once, the scope is closed, the cancellation goes on."""
    with Line() as line:
        leaving = asyncio.Event()

        async def scope() -> None:
            async with Supervisor() as sup:
                await sup.start(python(DEAF, line.end), pass_fds=[line.end], kill_grace=60)
                line.read()
                leaving.set()

        task = asyncio.create_task(scope())
        await leaving.wait()  # nothing is awaited between this and the wait inside the scope's end
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        line.wait_closed(timeout=1)


async def test_a_task_group_that_fails_ends_the_jobs_of_the_others() -> None:
    """Structured concurrency: one bad task, no process left."""
    with Line() as line:
        async with Supervisor() as sup:
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    for _ in range(4):
                        group.create_task(sup.run(python(DEAF, line.end), pass_fds=[line.end]))

                    async def fail() -> None:
                        await asyncio.to_thread(line.read)
                        raise ValueError("one of us is broken")

                    group.create_task(fail())
            assert sup.jobs == ()
            line.wait_closed(timeout=1)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened in this process, whatever is closed."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_jobs_that_end_while_no_descriptor_is_left_end_well_as_soon_as_there_are() -> None:
    """One that ends by itself and leaves a child, one at its limit, one that is killed; no exit is lost, no limit lapses."""
    with Line() as line, Line() as go:
        async with Supervisor() as sup:
            left = await sup.start(sh("setsid sleep 60 & read go; exit 3"), stdin=go._read, pass_fds=[line.end])
            late = await sup.start(["sleep", "60"], limits={"wall_time_max": 0.2})
            dead = await sup.start(["sleep", "60"])
            ended = os.pidfd_open(left.pid)
            with no_descriptors():
                killing = asyncio.create_task(dead.kill())
                go.release()
                await asyncio.to_thread(select.select, [ended], [], [], 10)
                while late.state == "running":
                    await asyncio.sleep(0.01)
            os.close(ended)
            async with asyncio.timeout(4):  # before anybody's patience runs out
                outcomes = [await job.wait() for job in (left, late, dead)]
                await killing
        assert [outcome.verdict for outcome in outcomes] == ["nonzero_exit", "wall_limit", "cancelled"]
        line.wait_closed(timeout=1)


async def test_a_start_that_is_cancelled_while_no_descriptor_is_left_leaves_no_job() -> None:
    """By another one that has begun in the same turn of the loop: the job runs, and killing it needs a descriptor."""
    with Line() as line:
        async with Supervisor() as sup:
            tasks: list[asyncio.Task[None]] = []

            async def begin(number: int) -> None:
                job = await sup.start(sh("echo; exec sleep 60"), stdout=line.end)
                other = tasks[1 - number]
                with no_descriptors():
                    other.cancel()
                    await asyncio.wait([other])
                await job.kill()

            tasks += [asyncio.create_task(begin(number)) for number in range(2)]
            await asyncio.sleep(0)  # both are being launched
            line.read(), line.read()  # both are known to run in the next turn
            await asyncio.wait(tasks)
            assert sorted([task.cancelled() for task in tasks]) == [False, True]
            async with asyncio.timeout(4):  # before anybody's patience runs out
                await asyncio.gather(*[job.wait() for job in sup.jobs])


async def test_output_that_is_not_the_text_asked_for_is_an_error_of_the_waiter_alone() -> None:
    """The job is over like any other: the scope ends, and the bytes are in the job's outcome."""
    async with Supervisor() as sup:
        job = await sup.start(["printf", "\\377"], capture_output=True, encoding="utf-8")
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                await job.wait()
        assert job.outcome is not None and (job.outcome.verdict, job.outcome.stdout) == ("ok", b"\xff")


async def test_an_encoding_that_nobody_knows_is_refused_before_anything_starts() -> None:
    """Both ways in; the encoding and the handler of errors."""
    async with Supervisor() as sup:
        refused: list[dict[str, Any]] = [{"encoding": "utf-9"}, {"encoding": "hex"}, {"text": True, "errors": "forgive"}]
        for wrong in refused:
            with pytest.raises(ConfigError, match="encoding"):
                await sup.start(["true"], **wrong)
            with pytest.raises(ConfigError, match="encoding"):
                supervisor.run(["true"], **wrong)
        assert sup.jobs == ()


async def test_what_a_job_held_goes_with_it() -> None:
    """Its input and output may be large: no cycle keeps them until Python collects."""
    gc.collect()
    gc.disable()
    try:
        async with Supervisor() as sup:
            assert (await sup.run(["cat"], input=b"x", capture_output=True)).stdout == b"x"
        assert not [found for found in gc.get_objects() if isinstance(found, Execution)]
    finally:
        gc.enable()


async def test_a_hundred_jobs_at_once_all_end_as_they_should() -> None:
    """Each with its own exit code and its own output."""
    async with Supervisor() as sup:
        jobs = [sup.run(sh('echo "$1"; exit $(($1 % 100))', n), capture_output=True) for n in range(100)]
        outcomes = await asyncio.gather(*jobs)
    assert [outcome.exit.code for outcome in outcomes] == [n % 100 for n in range(100)]
    assert [int(outcome.stdout) for outcome in outcomes] == list(range(100))


async def test_several_supervisors_do_not_know_each_other() -> None:
    """Four scopes on one loop; the end of one leaves the jobs of the others alone."""
    async with Supervisor() as outer:
        outside = await outer.start(["sleep", "60"])
        async with Supervisor() as one, Supervisor() as two, Supervisor() as three:
            outcomes = await asyncio.gather(*[sup.run(sh("exit $1", n)) for n, sup in enumerate((one, two, three))])
            assert [outcome.exit.code for outcome in outcomes] == [0, 1, 2]
        assert outside.state == "running"
        assert (await outside.kill()).verdict == "cancelled"


def test_event_loops_in_several_threads_each_have_a_supervisor() -> None:
    """Four threads, four loops, twenty jobs each."""

    async def many(base: int) -> list[int | None]:
        async with Supervisor() as sup:
            outcomes = await asyncio.gather(*[sup.run(sh("exit $1", base + n)) for n in range(20)])
        return [outcome.exit.code for outcome in outcomes]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda base: asyncio.run(many(base)), [0, 20, 40, 60]))
    assert found == [[base + n for n in range(20)] for base in (0, 20, 40, 60)]


def test_several_threads_call_run_at_once() -> None:
    """Eight threads, ten runs each; outputs and codes do not mix."""
    barrier = threading.Barrier(8)

    def work(number: int) -> list[tuple[int | None, bytes]]:
        barrier.wait()
        found = []
        for turn in range(10):
            outcome = supervisor.run(sh("cat; exit $1", number), input=b"%d.%d" % (number, turn), capture_output=True)
            found.append((outcome.exit.code, outcome.stdout))
        return found

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [[(number, b"%d.%d" % (number, turn)) for turn in range(10)] for number in range(8)]


def test_a_job_lives_on_when_the_thread_that_started_it_ends() -> None:
    """The parent-death signal follows a spawner thread of the engine's, not the caller's."""

    async def main() -> Outcome:
        async with Supervisor() as sup:
            with Line() as go:
                job = await sup.start(python("import os; os.read(0, 1)"), stdin=go._read)
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()
                assert job.state == "running"
                go.release()
                return await job.wait()

    assert asyncio.run(main()).verdict == "ok"


async def test_a_closed_supervisor_starts_nothing() -> None:
    """Before the scope and after it: ClosedError."""
    sup = Supervisor()
    with pytest.raises(supervisor.ClosedError):
        await sup.start(["true"])
    async with sup:
        pass
    with pytest.raises(supervisor.ClosedError):
        await sup.start(["true"])
    await sup.aclose()


async def test_refusals_leave_the_scope_usable() -> None:
    """ConfigError and UnsupportedError start nothing and break nothing."""
    async with Supervisor() as sup:
        with pytest.raises(supervisor.ConfigError):
            await sup.start([])
        with pytest.raises(supervisor.ConfigError):
            await sup.start(["true"], limits={"memory_max": "a lot"})
        with pytest.raises(supervisor.UnsupportedError):
            await sup.start(["true"], limits={"disk_max": "1M"})
        assert sup.jobs == ()
        assert (await sup.run(["true"])).ok


async def test_signals_reach_the_main_process_and_only_while_it_lives() -> None:
    """send_signal is true while there is somebody to hear it."""
    code = answering(10, "sys.exit(42)")
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(python(code, line.end), pass_fds=[line.end])
            line.read()
            assert await job.send_signal(10)
            outcome = await job.wait()
            assert (outcome.verdict, outcome.exit.code) == ("nonzero_exit", 42)
            assert not await job.send_signal(10)


async def test_an_idle_supervisor_does_not_wake() -> None:
    """While a job sleeps and nothing is due, no thread of ours is scheduled."""

    def switches() -> int:
        total = 0
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/status", encoding="ascii", errors="replace") as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        return total

    async with Supervisor() as sup:
        await sup.start(["sleep", "60"], kill_grace=0)
        await asyncio.sleep(0.05)
        before = switches()
        await asyncio.sleep(0.5)
        assert switches() - before <= 12


async def test_text_mode_decodes_what_the_job_printed() -> None:
    """The asynchronous API as the synchronous one."""
    async with Supervisor() as sup:
        outcome = await sup.run(["printf", "caf\u00e9\\r\\nx"], capture_output=True, text=True, encoding="utf-8")
    assert outcome.stdout == "caf\u00e9\nx"


async def test_jobs_are_numbered_and_never_twice() -> None:
    """In order of their start."""
    async with Supervisor() as sup:
        first = await sup.start(["true"])
        await first.wait()
        second = await sup.start(["true"])
        assert second.id > first.id


async def test_cancelling_run_in_the_very_tick_of_its_launch_still_waits_for_the_end() -> None:
    """When the cancellation comes through, nothing of the job is alive."""
    with Line() as line:
        async with Supervisor() as sup:
            task = asyncio.create_task(sup.run(python(DEAF, line.end), pass_fds=[line.end]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not [job for job in sup.jobs if not job.ended]
            line.wait_closed(timeout=1)


async def test_features_are_closed_before_the_jobs_in_reverse_and_their_errors_come_out_at_the_end() -> None:
    """The job still runs while they close, one of them fails, and everything is closed all the same."""
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        async with Supervisor() as sup:
            job = await sup.start(["sleep", "60"], kill_grace=0)

            def closer(name: str) -> Callable[[bool], Awaitable[None]]:
                async def close(at_once: bool) -> None:
                    seen.append(f"{name} {job.state} {at_once}")
                    if name == "second":
                        raise ZeroDivisionError

                return close

            sup.on_close(closer("first"))
            sup.on_close(closer("second"))
            sup.on_close(closer("taken back"))()
    assert seen == ["second running False", "first running True"]
    assert job.state == "terminated" and not sup.is_open


async def test_any_number_of_tasks_may_close_it_at_the_same_time() -> None:
    """Each returns when the last job is gone; one that is cancelled takes the others nothing away."""
    sup = await Supervisor().__aenter__()
    job = await sup.start(["sleep", "600"], kill_grace=60)
    async with asyncio.timeout(20):
        closing = [asyncio.ensure_future(sup.aclose(at_once=n > 0)) for n in range(3)]
        await asyncio.sleep(0)
        closing[0].cancel()
        results = await asyncio.gather(*closing, return_exceptions=True)
    assert job.ended
    assert not [result for result in results[1:] if result is not None]


async def test_a_supervisor_is_entered_once() -> None:
    """Entered again it would lose the jobs that it has."""
    async with Supervisor() as sup:
        with pytest.raises(ClosedError, match="entered once"):
            await sup.__aenter__()
        assert (await sup.run(["true"])).verdict == "ok"
    with pytest.raises(ClosedError, match="entered once"):
        await sup.__aenter__()


async def test_another_event_loop_is_refused_instead_of_waiting_for_ever() -> None:
    async with Supervisor() as sup:
        job = await sup.start(["sleep", "600"])

        async def elsewhere() -> None:
            for use in (lambda: sup.run(["true"]), lambda: sup.start(["true"]), job.wait, job.pause, job.kill, job.terminate, sup.aclose):
                with pytest.raises(ConfigError, match="another event loop"):
                    await use()

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert sup.jobs == (job,)
        assert (await sup.run(["true"])).verdict == "ok"


def test_a_forked_child_that_unwinds_leaves_the_parent_s_jobs_alone() -> None:
    """It has a copy of the scope, whose end would kill them."""
    program = """
import asyncio, os, sys
from supervisor import Pool, Supervisor

async def main():
    async with Supervisor() as sup, Pool(1) as pool:
        job = await sup.start(["sleep", "600"])
        await pool.run(abs, -1)
        worker = pool.processes
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        print(job.state, (await sup.run(["true"])).verdict, await pool.run(abs, -2), pool.processes == worker)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
    assert done.stdout == b"running ok 2 True\n"
