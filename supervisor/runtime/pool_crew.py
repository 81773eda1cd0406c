# SPDX-License-Identifier: Apache-2.0
"""Crew: the workers of a pool and the tasks that wait for one."""

from __future__ import annotations

import asyncio
from collections import deque
from mmap import mmap
from time import monotonic_ns

from supervisor.control.pool import CrashLoop, ahead, answered, ended, paced, to_dismiss, to_start, worn
from supervisor.control.recovery import is_transient
from supervisor.errors import BrokenError, ClosedError, JobFailed, TaskTimeoutError
from supervisor.model.outcome import Outcome, Verdict
from supervisor.model.value import replace
from supervisor.runtime.pool_launch import ungiven
from supervisor.runtime.pool_task import UNLIMITED, AsyncTask, raised, settle
from supervisor.worker.wire import RAISED, READ_BYTES, READY, RESULT, UNSENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any, Final, Protocol

    from supervisor.control.pool import Sizes, Wear
    from supervisor.runtime.job import Job
    from supervisor.runtime.pool_line import Answer
    from supervisor.runtime.pool_task import Task
    from supervisor.runtime.pool_worker import Foreman, Worker

    class Launcher(Protocol):
        """Who starts workers."""

        #: The limits of every worker, by name.
        limits: Mapping[str, Any]

        def hire(self, foreman: Foreman) -> tuple[Worker, Coroutine[Any, Any, Job]]: ...
        async def aclose(self) -> None: ...

    Returned = Callable[[Any], tuple[Any, BaseException | None]]

#: How long a dismissed worker may take to leave by itself.
LEAVING_SECONDS: Final = 5.0
SIGINT: Final = 2


class Crew:
    """Owns the workers and the queue. Tasks are begun in the order in which they came.

    A worker that dies takes the one task along that it was at; those sent ahead to it, which it had not
    begun, go back to the head of the queue.
    """

    def __init__(self, launcher: Launcher, sizes: Sizes, wear: Wear, returned: Returned) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._wear = wear
        self._wears = (wear.tasks_max, wear.age_max_ns, wear.memory_max_bytes) != (None, None, None)
        self._returned = returned
        self.loop = asyncio.get_running_loop()
        self.room = mmap(-1, READ_BYTES)  # one for all; socket.recv would map and unmap as much for each answer
        self._queue: deque[Task] = deque()
        self._workers: dict[Worker, asyncio.Task[None]] = {}
        self._idle: list[Worker] = []  # the one that was idle longest first
        self._number = 0
        self._crashes = CrashLoop()
        self._shrinking: asyncio.TimerHandle | None = None
        self._changed: asyncio.Future[None] | None = None
        self._chores: set[asyncio.Future[Any]] = set()
        self.broken: BrokenError | None = None
        self.closed = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Every worker whose process may still live."""
        return tuple(self._workers)

    # ---- tasks ----

    def check(self) -> None:
        """Raises :class:`ClosedError` or :class:`BrokenError` when no task can be taken."""
        if self.closed:
            raise ClosedError("the pool is closed")
        if self.broken is not None:
            raise BrokenError(str(self.broken)) from self.broken.__cause__

    def submit(self, task: Task) -> None:
        """Give the task to a free worker, or let it wait for one."""
        self._number += 1
        task.number = self._number
        if isinstance(task, AsyncTask):
            task.canceller = self
        self._queue.append(task)
        while self._idle and self._queue:
            self._feed(self._idle.pop())
        if not self._idle and len(self._workers) < self._sizes.most:
            self.grow()

    def _send(self, worker: Worker, task: Task) -> None:
        """To a worker that holds nothing."""
        worker.batch = task.batch
        worker.heard_ns = monotonic_ns()
        if task.terms is UNLIMITED and not worker.changed_limits:
            worker.give((task,))
        else:
            self._send_under_terms(worker, task)

    def _feed(self, worker: Worker) -> None:
        """Give the worker what waits longest, and more of the same map as far as its pace allows."""
        queue, batch = self._queue, worker.batch
        if not worker.held:
            while queue:
                task = queue.popleft()
                if task.begin():
                    break
            else:
                self._rest(worker)
                return
            self._send(worker, task)
            batch = task.batch
        if batch is None or not queue or worker.leaving:
            return
        room = ahead(batch.pace_ns, len(queue), len(self._workers)) - len(worker.held)
        more: list[Task] = []
        while queue and len(more) < room and queue[0].batch is batch:
            task = queue.popleft()
            if task.begin():
                more.append(task)
        if more:
            worker.give(more)

    def abandon(self, task: Task) -> None:
        """The task was cancelled: one that is waiting is passed over later, one that a worker is at is stopped."""
        for worker in self._workers:
            if task.number in worker.held:
                if worker.current == task.number or all([held.done() for held in worker.held.values()]):
                    self._stop(worker, task)
                break
        self._tell()

    # ---- what workers say ----

    def answered(self, worker: Worker, answers: list[Answer]) -> None:
        """Hand the answers to whoever waits, and the worker more to do."""
        held = worker.held
        for kind, number, body in answers:
            task = held.pop(number, None)
            if task is None:
                self._heard(worker, kind, body)
            elif kind == RESULT:
                if not task.done():
                    settle(task, *self._returned(body))
            else:
                settle(task, None, _politely_timed_out() if task.timed_out else raised(body, kind == UNSENT))
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
        worker.done += len(answers)
        if worker.done > 0:
            self._crashes = answered(self._crashes)
        if worker.batch is not None:
            now_ns = monotonic_ns()
            worker.batch.pace_ns = paced(worker.batch.pace_ns, len(answers), now_ns - worker.heard_ns)
            worker.heard_ns = now_ns
        if not held:
            self._free(worker)
        elif self._queue and worker.batch is not None and self._queue[0].batch is worker.batch:
            self._feed(worker)
        if self._changed is not None:
            self._tell()

    def _heard(self, worker: Worker, kind: int, body: Any) -> None:
        """What is no answer to a task: it is ready, could not be prepared, or speaks nonsense."""
        if kind == READY and not worker.ready:
            worker.ready = True
            worker.ready_ns = monotonic_ns()
            worker.done -= 1
        elif kind == RAISED and not worker.ready:
            worker.leaving = True
            self._break("a worker cannot be prepared: its initializer or a preloaded module raised", raised(body, False))
        else:
            self._kill_at_fault(worker)

    def fell_silent(self, worker: Worker) -> None:
        """It has closed its end: its process is ending, or has no business living."""
        if worker.at_fault:
            self._kill_at_fault(worker)
        elif not worker.leaving and worker.job is not None and worker in self._workers:
            self._later(LEAVING_SECONDS, lambda: self._kill_at_fault(worker))  # not sooner: its own end shall be its verdict
        if worker in self._idle:
            self._idle.remove(worker)

    # ---- workers ----

    def _free(self, worker: Worker) -> None:
        """It holds nothing: more work, retirement, or rest."""
        if worker.leaving:
            if worker.ready:
                worker.dismiss()
            return
        if self._wears and worker.done > 0 and self._worn(worker):  # a life too short for one task would never do any
            self._dismiss(worker)
        elif self._queue:
            self._feed(worker)
        else:
            self._rest(worker)

    def _rest(self, worker: Worker) -> None:
        worker.batch = None
        worker.idle_since_ns = monotonic_ns()
        self._idle.append(worker)
        if self._shrinking is None and len(self._workers) > self._sizes.least:
            self._shrink()

    def _worn(self, worker: Worker) -> bool:
        memory = worker.memory_bytes() if self._wear.memory_max_bytes is not None else 0
        return bool(worn(self._wear, worker.done, monotonic_ns() - worker.started_ns, memory))

    def grow(self) -> None:
        """Start as many workers as the waiting tasks, the least number and the spares call for."""
        if self.closed or self.broken is not None:
            return
        free = len(self._idle) + sum([1 for worker in self._workers if not worker.ready])
        for _ in range(to_start(self._sizes, len(self._workers), free, len(self._queue))):
            try:
                worker, starting = self._launcher.hire(self)
            except OSError as error:  # no descriptor is left: those who live do the work
                if not self._workers:
                    self._break(f"no worker can be started: {error}", error)
                return
            self._workers[worker] = asyncio.ensure_future(self._watch(worker, starting))
            if worker.ready:  # a task may lie in its socket before it lives
                self._free(worker)

    async def _watch(self, worker: Worker, starting: Coroutine[Any, Any, Job]) -> None:
        """One worker's life."""
        try:
            worker.job = await starting
        except JobFailed as failed:  # what it was to be forked from has ended
            worker.release()
            worker.ready = False
            self._died(worker, failed.outcome)
            return
        except Exception as error:
            worker.release()
            worker.forget_word()
            self._forget(worker)
            held = list(worker.held.values())
            if isinstance(error, OSError) and self._does_without("", error.errno):
                self._give_back(held)
            else:
                self._break(f"no worker can be started: {error}", error, held)
            return
        finally:
            worker.born.set()
        if worker.doomed:
            await worker.job.kill()
        outcome = await worker.job.wait()
        worker.drain()
        self._died(worker, outcome)

    def _forget(self, worker: Worker) -> None:
        del self._workers[worker]
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.timer is not None:
            worker.timer.cancel()

    def _died(self, worker: Worker, outcome: Outcome) -> None:
        self._forget(worker)
        current = worker.current
        worker.forget_word()
        expected = worker.leaving and not worker.at_fault
        back: list[Task] = []
        for number, task in worker.held.items():
            if number == current or task.timed_out:
                expected = True
                settle(task, None, _failure(task, outcome))
            elif not task.done():
                back.append(task)
        worker.held.clear()
        failed = outcome.error if outcome.verdict == Verdict.START_FAILED else None
        if failed is not None and self._does_without(failed.stage, failed.errno):
            self._give_back(back)
            return
        self._queue.extendleft(reversed(back))
        if self.closed:
            self._turn_away(ClosedError("the pool was closed before the task began"))
        elif self.broken is not None and not self._workers:
            self._turn_away(self.broken)
        if outcome.verdict == Verdict.START_FAILED:
            self._break(f"no worker can be started: {outcome.summary()}", JobFailed(outcome))
        elif not expected and worker.done == 0:
            self._crashes = loop = ended(self._crashes, outcome, ready=worker.ready, life_ns=monotonic_ns() - worker.ready_ns)
            if loop.reached:
                self._break(f"{loop.faults + loop.kills} workers in a row ended before any task: {outcome.summary()}", JobFailed(outcome))
        while self._queue and self._idle:
            self._feed(self._idle.pop())
        self.grow()
        self._tell()

    def _does_without(self, stage: str, number: int | None) -> bool:
        """One worker less is no end: others live, and the next start may succeed (no descriptor was left, or no memory)."""
        return bool(self._workers) and not self.closed and self.broken is None and is_transient(stage, number or 0)

    def _give_back(self, tasks: Sequence[Task]) -> None:
        """Tasks of a worker that could not be started, to those who live. The next task tries to start one again."""
        self._queue.extendleft(reversed([task for task in tasks if not task.done()]))
        while self._queue and self._idle:
            self._feed(self._idle.pop())
        self._tell()

    def _break(self, why: str, cause: BaseException, more: Sequence[Task] = ()) -> None:
        """No worker can be had: every task that waits fails, and every further one."""
        if self.closed:
            self._turn_away(ClosedError("the pool was closed before the task began"), more)
            return
        if self.broken is None:
            self.broken = BrokenError(why)
            self.broken.__cause__ = cause
        error = BrokenError(why)
        error.__cause__ = cause
        self._turn_away(error, more)
        self._tell()

    def _turn_away(self, why: BrokenError | ClosedError, more: Sequence[Task] = ()) -> None:
        """Nobody will do what waits: each task fails with an error of its own."""
        waiting, self._queue = self._queue, deque()
        for task in [*more, *waiting]:
            if task.begin():
                error = type(why)(*why.args)
                error.__cause__ = why.__cause__
                settle(task, None, error)

    def _dismiss(self, worker: Worker) -> None:
        worker.dismiss()
        self._later(LEAVING_SECONDS, lambda: self._kill(worker))

    def _kill(self, worker: Worker) -> None:
        worker.leaving = True
        worker.doomed = True
        if worker.job is not None and worker in self._workers:
            self._chore(worker.job.kill())

    def _kill_at_fault(self, worker: Worker) -> None:
        """It does not do what a worker does; the next one may not either."""
        worker.at_fault = not worker.leaving
        self._kill(worker)

    def _stop(self, worker: Worker, task: Task) -> None:
        """End the work: by asking first if the task's terms say so, else with its process."""
        worker.leaving = not task.terms.interrupt_ns
        if task.terms.interrupt_ns and worker.job is not None:
            self._chore(worker.job.send_signal(SIGINT))
            number = task.number
            self._later(task.terms.interrupt_ns / 1e9, lambda: self._kill(worker) if number in worker.held else None)
        else:
            self._kill(worker)

    def _shrink(self) -> None:
        """Let those go that have been idle too long, and look again when the next one will have been."""
        self._shrinking = None
        if self.closed:
            return
        since = [worker.idle_since_ns for worker in self._idle]
        now_ns = monotonic_ns()
        for worker in self._idle[: to_dismiss(self._sizes, len(self._workers), since, now_ns)]:
            self._idle.remove(worker)
            self._dismiss(worker)
        staying = sum([1 for worker in self._workers if not worker.leaving])
        if staying > self._sizes.least and len(self._idle) > self._sizes.spare:
            wait_ns = max(0, self._idle[0].idle_since_ns + self._sizes.idle_ns - now_ns)
            self._shrinking = self.loop.call_later(wait_ns / 1e9 + 0.001, self._shrink)

    # ---- terms of single tasks ----

    def _send_under_terms(self, worker: Worker, task: Task) -> None:
        if not task.terms.limits and not worker.changed_limits:
            self._begin_timed(worker, task)
        else:
            worker.held[task.number] = task  # nobody else's turn meanwhile
            self._chore(self._relimit(worker, task))

    async def _relimit(self, worker: Worker, task: Task) -> None:
        """The worker's limits as this task's terms want them, then the task."""
        await worker.born.wait()
        if worker.job is None:
            return
        wanted = task.terms.limits
        try:
            await self._take_back(worker, worker.changed_limits - wanted.keys())
        except Exception:  # a hard rlimit, or the worker has ended: no fault of this task's
            if worker.held.pop(task.number, None) is not None:
                self._queue.appendleft(task)
                self._dismiss(worker)
            return
        try:
            if wanted:
                await worker.job.set_limits(**wanted)
        except ClosedError:
            return  # the worker is ending: its task goes to another
        except Exception as error:
            if worker.held.pop(task.number, None) is not None:
                settle(task, None, error)
                if worker.job.outcome is None:
                    self._free(worker)
            return
        worker.changed_limits = frozenset(task.terms.limits)
        if worker in self._workers and not worker.leaving:
            self._begin_timed(worker, task)

    async def _take_back(self, worker: Worker, names: AbstractSet[str]) -> None:
        """Put back the limits that earlier terms have changed; raises what :meth:`Job.set_limits` raises."""
        assert worker.job is not None
        if names:
            limits = self._launcher.limits  # a limit of 0 is one too
            before = {name: limits[name] if name in limits else ungiven(name) for name in names}
            await worker.job.set_limits(**before)

    def _begin_timed(self, worker: Worker, task: Task) -> None:
        worker.give((task,))
        if task.terms.timeout_ns is not None:
            worker.timer = self.loop.call_later(task.terms.timeout_ns / 1e9, self._overdue, worker, task)

    def _overdue(self, worker: Worker, task: Task) -> None:
        worker.timer = None
        if not task.done() and task.number in worker.held:
            task.timed_out = True
            self._stop(worker, task)

    # ---- the end ----

    async def drained(self) -> None:
        """Until every task is done."""
        while any(not task.done() for task in self._queue) or any(worker.held for worker in self._workers):
            self._changed = self.loop.create_future()
            await self._changed

    async def close(self, *, at_once: bool) -> None:
        """End every worker: what still waits is cancelled. Cancelled meanwhile, it kills and still waits for the end."""
        self.closed = True
        if self._shrinking is not None:
            self._shrinking.cancel()
        for task in [*self._queue, *(task for worker in self._workers for task in worker.held.values())]:
            if not task.done():
                task.cancel()
                task.begin()  # its own thread is told of the end
        for worker in self.workers:
            if at_once or worker.held or not worker.ready:
                self._kill(worker)
            else:
                self._dismiss(worker)
        self._chore(self._launcher.aclose())  # what has not started may never: a template imports for ever
        cancelled: asyncio.CancelledError | None = None
        while self._workers or self._chores:
            try:
                await asyncio.wait([*self._workers.values(), *self._chores])
            except asyncio.CancelledError as request:
                cancelled = request
                for worker in self.workers:
                    self._kill(worker)
        if cancelled is not None:
            raise cancelled

    def _tell(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _chore(self, work: Coroutine[Any, Any, Any]) -> None:
        chore = asyncio.ensure_future(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        self.loop.call_later(seconds, act)


def _politely_timed_out() -> TaskTimeoutError:
    return TaskTimeoutError(Outcome(verdict=Verdict.WALL_LIMIT, limits_hit=("wall_time_max",)))


def _failure(task: Task, outcome: Outcome) -> JobFailed:
    if not task.timed_out:
        return JobFailed(outcome)
    hit = ("wall_time_max", *[name for name in outcome.limits_hit if name != "wall_time_max"])
    return TaskTimeoutError(replace(outcome, verdict=Verdict.WALL_LIMIT, limits_hit=hit, killed=True))
