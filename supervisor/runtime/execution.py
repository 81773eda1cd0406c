# SPDX-License-Identifier: Apache-2.0
"""Execution: one job from launch to outcome, driven by whatever loop owns the engine.

A driver hands it the engine's events (:meth:`on_event`) and the time (:meth:`on_time`, due at
:attr:`deadline_ns`), so the same state machine serves the synchronous one-shot path, which imports no
asyncio, and the asynchronous supervisor. Only pausing waits, for the freezer, and asking the init
helper, for its answer, both for milliseconds.

States are the contract's: ``starting running paused stopping terminated failed``. Whatever makes the
supervisor end a job is noted in ``causes`` before it acts.
"""

from __future__ import annotations

import os

from supervisor.kernel import native
from supervisor.kernel.native import DENIED, EMPTY, EXITED, OUTPUT_LIMIT, READY, SPAWNED
from supervisor.kernel.streams import Streams
from supervisor.kernel.tree import ENDED, FAILED, LISTENER, STARTED, CgroupTree, HelperTree
from supervisor.model.state import JobState
from supervisor.runtime.clock import HELPER_PATIENCE_NS, UNREAPED_PATIENCE_NS, Clock
from supervisor.runtime.end import End
from supervisor.runtime.launching import Launching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Protocol

    from supervisor.kernel.cgroup import Cgroup
    from supervisor.kernel.cgroup_root import CgroupRoot
    from supervisor.kernel.denials import Denials
    from supervisor.kernel.held_signals import HeldSignals
    from supervisor.kernel.native import Engine
    from supervisor.model.host import Host
    from supervisor.model.limits import Limits
    from supervisor.model.outcome import Outcome
    from supervisor.model.plan import LaunchPlan
    from supervisor.model.relimit import Relimit
    from supervisor.model.spec import JobSpec
    from supervisor.runtime.wall_guard import WallGuard

    class Observer(Protocol):
        """Who wants to know what happens to an execution, while it happens."""

        def state_changed(self, previous: str, state: str) -> None: ...
        def limit_hit(self, limit: str) -> None: ...


#: After a kill that failed for lack of a descriptor: when to try again.
RETRY_NS: Final = 10_000_000


class Execution:
    """Owns one job's process tree, its streams and its cgroup, from launch to outcome."""

    __slots__ = (
        "_clock",
        "_denials",
        "_end",
        "_host",
        "_launching",
        "_parting",
        "_wall_guard",
        "caused_ns",
        "causes",
        "changing",
        "ending",
        "engine",
        "guarded",
        "keep",
        "observer",
        "outcome",
        "pid",
        "plan",
        "relay_errno",
        "spec",
        "state",
        "streams",
        "tells_early",
        "token",
        "tree",
    )

    def __init__(self, engine: Engine, spec: JobSpec, plan: LaunchPlan, host: Host, root: CgroupRoot | None) -> None:
        """Open the job's streams. Raises OSError when that fails; nothing is left open then."""
        self.engine = engine
        self.spec = spec
        self.plan = plan
        self.token = engine.new_token()
        self.state: str = JobState.STARTING
        self.outcome: Outcome | None = None
        self.causes: list[str] = []
        self.caused_ns = 0  # when the first of them was noted
        self.pid = 0
        self.relay_errno = 0
        self.ending = False  # the outcome is being made: what is raised from then on is no reason to try again
        self.observer: Observer | None = None
        self.tree: CgroupTree | HelperTree | None = None
        self._host = host
        self._end = End()
        self._clock = Clock(plan)
        if (peaks := self._clock.peaks) is not None:
            self._end.peaks = peaks
        self._wall_guard: WallGuard | None = None
        self.keep: Callable[[Cgroup], None] | None = None  # who takes over what the main process leaves behind; None: it is ended
        self.changing = False  # its limits are being written: an end waits, so that it is judged by the limits it met
        self.guarded = False  # the driver may be late: native code watches the wall-clock limit too
        self.tells_early = False  # the driver waits for :attr:`parted` before it calls :meth:`release`
        self._parting = False
        self._denials: Denials | None = None
        self.streams = Streams(engine, self.token, spec, plan)
        try:
            self._launching: Launching | None = Launching(engine, self.token, spec, plan, root, self.streams)
        except BaseException:
            self.streams.release()
            self.streams.close()
            raise

    @property
    def host(self) -> Host:
        """The facts that the plan was made for."""
        return self._host

    # ---- launching ----

    def launch(self, held: HeldSignals | None) -> None:
        """Launch on the calling thread (it sleeps until exec).

        Raises what :meth:`Launching.launch` raises; the streams are still to be closed then.
        """
        assert self._launching is not None
        self._spawned(*self._launching.launch(held))

    def submit(self) -> None:
        """Launch on the engine's spawner threads; a SPAWNED event follows."""
        assert self._launching is not None
        self._launching.submit()

    def adopt(self, child: Any) -> None:
        """Watch a child that a template has forked, or take note that it could not."""
        assert self._launching is not None
        self._launching.adopt(child)
        self._spawned(child)

    def _spawned(self, child: Any, message: str = "") -> None:
        launching, self._launching = self._launching, None
        assert launching is not None
        self._end.requested_ns = child.requested_ns
        failure = launching.failure(child, message)
        if failure is not None:
            self._fail(*failure)
            return
        self._end.spawner_rss_kib = child.spawner_rss_kib
        if launching.is_direct:
            self._listen(child.listener_fd)
        self.tree = launching.tree(child)
        if isinstance(self.tree, CgroupTree):
            self._started(child.pid, child.started_ns)

    def _listen(self, listener_fd: int) -> None:
        """Answer and count what the job's filter denies."""
        if listener_fd >= 0:
            from supervisor.kernel.denials import Denials

            assert self.plan.syscall_filter is not None
            try:
                self._denials = Denials(self.engine, self.token, listener_fd, self.plan.syscall_filter)
            except OSError as error:  # the calls still fail, with ENOSYS
                self._end.warnings.append(f"denied system calls cannot be counted: {error.strerror}")

    def _started(self, pid: int, started_ns: int) -> None:
        self.pid = pid
        self._end.started_ns = started_ns
        self._clock.start(self.plan, self._host.processors_online, started_ns)
        self._guard()
        if self.state == JobState.STARTING:
            self._become(JobState.RUNNING)
        if self.causes and self._clock.kill_ns is None:  # ended by somebody while it was starting, and no grace period runs
            self.kill()

    def _fail(self, stage: str, number: int, index: int, message: str = "") -> None:
        from supervisor.kernel.diagnose import start_error
        from supervisor.model.outcome import StartError
        from supervisor.runtime.conclude import failed_outcome

        error = start_error(stage, number, index, self.plan)
        if message:
            error = StartError(stage=stage, errno=number, message=f"step {stage}: {message}")
        self.streams.drain()  # its files are free for the next job
        self._finish(failed_outcome(error, self.plan, self._end))

    # ---- events ----

    def on_event(self, event: Any) -> None:
        """Take one event of the engine that carries this job's token."""
        kind = event.kind
        if kind == EXITED:
            self._exited(event)
        elif kind == SPAWNED:
            self._spawned(event.child)
        elif kind == EMPTY:
            self._emptied()
        elif kind == OUTPUT_LIMIT:
            self.reached("output_max")
        elif kind == DENIED:
            self.reached("syscalls")
        elif kind == READY:
            self._hear_helper()
        if self.outcome is None and self._end.empty and not self.changing:
            self._conclude()

    def _hear_helper(self) -> None:
        if not isinstance(self.tree, HelperTree) or (notice := self.tree.receive()) is None:
            return
        self._take_notice(notice)
        if notice.kind == STARTED and (notice := self.tree.receive_more()) is not None:  # of a short job the end is there too
            self._take_notice(notice)

    def _take_notice(self, notice: Any) -> None:
        if notice.kind == STARTED:
            assert isinstance(self.tree, HelperTree)
            self._started(self.tree.main_pid(notice), notice.time_ns)
        elif notice.kind == LISTENER:
            assert isinstance(self.tree, HelperTree)
            self._listen(self.tree.take_listener())
        elif notice.kind == FAILED:
            self._end.take_failure(notice)
        elif notice.kind == ENDED:
            assert isinstance(self.tree, HelperTree)
            self._clock.ended()  # what the helper's own end takes is not the job's time
            self._end.take_notice(notice)
            self.tree.said_all()
            self._hear_guard()
            if self.tells_early:
                self._part(self.tree)

    def _part(self, tree: HelperTree) -> None:
        """The job is over: what is left is that the kernel takes its namespaces apart, as part of the helper's end."""
        found = tree.look_at_box()
        if self._end.unreaped or (found is not None and found.populated != 0):
            return
        if found is not None:
            self._end.take_cgroup(found)
        self._end.empty = self._parting = True

    def _exited(self, event: Any) -> None:
        if isinstance(self.tree, HelperTree):
            while (notice := self.tree.receive()) is not None:  # what it said before it ended
                self._take_notice(notice)
            self._end.take_cgroup(event)
            if self.tree.cgroup is not None and event.populated == 1:  # the last of its namespace is still on its way out
                self.engine.watch_empty(self.token, self.tree.cgroup.open_events())
                self._end.helper_ended = True
            else:
                self._left_alone()
            return
        self._clock.ended()
        assert isinstance(self.tree, CgroupTree)
        self.tree.pidfd = -1
        self._end.take_exit(event)
        self._hear_guard()
        if event.populated == 0 or (self.keep is not None and not self.causes):
            self._end.empty = True
            return
        self.keep = None
        self._end_rest(self.tree)

    def _end_rest(self, tree: CgroupTree) -> None:
        """What the main process left behind goes with it, and the kernel tells when it has; tried again when it fails."""
        if self.state != JobState.STOPPING:
            self._become(JobState.STOPPING)
        now_ns = native.now_ns()
        try:
            tree.kill()
            self._clock.killed(now_ns)
            events_fd = tree.cgroup.open_events()
            try:
                self.engine.watch_empty(self.token, events_fd)
            except OSError:
                os.close(events_fd)
                raise
        except OSError:  # no descriptor is left, for a moment or for long
            self._clock.kill_by(now_ns + RETRY_NS)

    def _guard(self) -> None:
        """Tell native code when the wall-clock limit falls due now."""
        due = self._clock.wall_due_ns if self.guarded else None
        if self._wall_guard is None and due is not None and self.tree is not None:
            from supervisor.runtime.wall_guard import WallGuard  # a command in the foreground has a driver that is never late

            try:
                self._wall_guard = WallGuard(self.engine, self.tree, self._end, self.spec.limit_grace_ns == 0)
            except OSError as error:
                self._end.warnings.append(f"wall_time_max is watched by the event loop alone: {error}")
        if self._wall_guard is not None:
            self._wall_guard.set(due)

    def _hear_guard(self) -> None:
        """The main process was reaped: had native code to end it?"""
        killed_ns = 0 if self._wall_guard is None else self._wall_guard.judge(self._end)
        if killed_ns and "wall_time_max" not in self.causes:
            self.caused_ns = self.caused_ns or killed_ns
            self.note("wall_time_max")

    def _emptied(self) -> None:
        if self._end.status is not None or self._end.helper_ended:
            self._left_alone()

    def _left_alone(self) -> None:
        """Nobody of the tree is left, the helper included, or nobody is waited for any more."""
        self._end.empty = True
        if self._parting:
            self._parting = False
            self._clock.stop()

    # ---- time ----

    @property
    def deadline_ns(self) -> int | None:
        """When :meth:`on_time` must be called, or None when nothing is due."""
        return self._clock.due_ns

    def on_time(self, now_ns: int) -> None:
        """Look at what is due: limits of time, samples, the end of a grace period."""
        if self.tree is None or (self.outcome is not None and not self._parting):
            return
        clock = self._clock
        if clock.kill_ns is not None and now_ns >= clock.kill_ns:
            clock.kill_ns = None
            if isinstance(self.tree, CgroupTree) and self._end.status is not None:
                self._end_rest(self.tree)
            else:
                self.kill()
        if clock.give_up_ns is not None and now_ns >= clock.give_up_ns:
            self._give_up(now_ns)
            return
        found, of_time = clock.look(now_ns, self.tree, self.streams.last_ns())
        if isinstance(self.tree, HelperTree) and self.tree.lost:
            self.tree.destroy()  # the job attacked it, so nothing about the tree can be trusted any more
        elif found is not None:
            self.reached(found, graceful=of_time and self.spec.limit_grace_ns > 0)

    def _give_up(self, now_ns: int) -> None:
        """The tree is not empty long after its kill: a lost helper is destroyed, a task nobody can kill is left to a sweep."""
        if isinstance(self.tree, HelperTree) and not self.tree.lost:
            self.tree.destroy()
            self._clock.give_up_ns = now_ns + UNREAPED_PATIENCE_NS
            return
        if self.outcome is not None:
            self._left_alone()
            return
        self._end.unreaped = True
        self._conclude()

    def note(self, limit: str) -> None:
        """A limit is reached: the cause is noted before anything is done about it."""
        self._cause(limit)
        if self.observer is not None:
            self.observer.limit_hit(limit)

    def reached(self, limit: str, graceful: bool = False) -> None:
        """A limit is reached: note it, then act on it."""
        self.note(limit)
        if graceful:
            self._terminate(self.spec.limit_grace_ns, self.spec.kill_signal)
        else:
            self.kill()

    def _cause(self, cause: str) -> None:
        """Why we are about to act, and when."""
        self.causes.append(cause)
        self.caused_ns = self.caused_ns or native.now_ns()

    # ---- control ----

    def stop(self, grace_ns: int, cause: str = "cancelled", signal: int | None = None) -> None:
        """Ask the job to end, and kill its tree when the grace period is over; safe in every state.

        ``signal``: instead of the specification's; 0 sends none, for a job that had it already.
        """
        if self.outcome is not None:
            self.streams.abandon()  # only a reader who takes nothing holds us up now
            return
        self._cause(cause)
        has_ended = self._end.status is not None  # and nobody can ask it any more: only what it left is killed
        self._end.asked |= signal is not None and not has_ended
        if grace_ns > 0 and self.tree is not None and not has_ended:
            self._terminate(grace_ns, self.spec.kill_signal if signal is None else signal)
        else:
            self.kill()

    def _terminate(self, grace_ns: int, signal: int) -> None:
        self._end.asked = True
        self._clock.kill_by(native.now_ns() + grace_ns)
        if self.tree is None:
            return
        was_paused = self._end.paused_at is not None
        self._become(JobState.STOPPING)
        try:
            if signal:
                self._ask_to_end(self.tree, signal)
            if was_paused:  # a paused job gets its chance too
                self.resume()
        except OSError as error:  # it is another user's by now, or no descriptor is left: the kill behind the grace needs no asking
            self._end.warnings.append(f"the job could not be asked to end: {error.strerror}")

    def _ask_to_end(self, tree: CgroupTree | HelperTree, signal: int) -> None:
        if self.spec.kill_mode == "mixed":
            tree.signal_main(signal)
        else:
            from supervisor.kernel.members import signal_members

            signal_members(tree, signal)

    def kill(self) -> None:
        """SIGKILL to the whole tree, now; tried again as long as it fails (no descriptor left to do it with)."""
        if self.tree is None or self.outcome is not None:
            return  # still starting: noted in causes, and done as soon as it has started
        if self.state != JobState.STOPPING:
            self._become(JobState.STOPPING)
        now_ns = native.now_ns()
        try:
            self.tree.kill()
        except OSError:
            self._clock.kill_by(now_ns + RETRY_NS)
            return
        self._clock.killed(now_ns, HELPER_PATIENCE_NS if isinstance(self.tree, HelperTree) else UNREAPED_PATIENCE_NS)

    def pause(self) -> Callable[[], object] | None:
        """Stop the whole tree; wall and idle time stand still. Without effect unless it runs; raises OSError, and it runs on then.

        Returns what waits for the last task to stop, on any thread, with :meth:`paused` to be called after it; None when all have.
        """
        if self.state != JobState.RUNNING or self.tree is None:
            return None
        try:
            still_stopping = self.tree.pause()
        except BaseException:  # no descriptor to wait with, say
            self.tree.resume()
            raise
        if self._end.paused_at is None:  # nobody is pausing it already
            now_ns = native.now_ns()
            self._end.paused_at = now_ns
            self._clock.pause(now_ns)
            self._guard()
        if still_stopping is None:
            self.paused()
        return still_stopping

    def paused(self) -> None:
        """Every task has stopped, unless it was resumed or ended meanwhile."""
        if self._end.paused_at is not None and self.state == JobState.RUNNING:
            self._become(JobState.PAUSED)

    def unpause(self) -> None:
        """Whether every task has stopped cannot be told: the tree runs on, unless somebody else has paused it meanwhile."""
        if self.state == JobState.RUNNING:
            self.resume()

    def resume(self) -> bool:
        """Let a paused tree run on. False when it was not paused."""
        if self._end.paused_at is None or self.tree is None:
            return False
        self.tree.resume()
        now_ns = native.now_ns()
        self._end.paused_ns += now_ns - self._end.paused_at
        self._end.paused_at = None
        self._clock.resume(now_ns)
        self._guard()
        if self.state == JobState.PAUSED:
            self._become(JobState.RUNNING)
        return True

    @property
    def paused_ns(self) -> int:
        """How long the job has been paused in all, up to now."""
        at = self._end.paused_at
        return self._end.paused_ns + (0 if at is None else native.now_ns() - at)

    def relimit(self, change: Relimit) -> None:
        """The limits were changed on the tree: what is kept here follows."""
        self.spec, self.plan = change.spec, change.plan
        if self._end.status is not None:
            return  # what it met meanwhile, a lower memory_max say, ended it
        self._clock.relimit(change.plan, self._host.processors_online, self._end.started_ns, self._end.paused_ns)
        self._guard()
        if change.output_max is not None and self.streams.limit(change.output_max):
            self.reached("output_max")

    def change_over(self) -> None:
        """The limits are written or refused: an end that came meanwhile is concluded now."""
        self.changing = False
        if self.outcome is None and self._end.empty:
            self._conclude()

    def retime(self, limits: Limits) -> None:
        """Other limits of time than the plan's from now on, as soft ones that give way to hard ones; time already used counts."""
        if self.tree is not None and self._end.status is None:
            self._clock.retime(limits, self._host.processors_online, self._end.started_ns, self._end.paused_ns)

    def signal(self, number: int) -> bool:
        """Send a signal to the main process. False when it has ended or not started yet. Raises OSError, such as for another user's."""
        if self.tree is None or self._end.status is not None or self.outcome is not None:
            return False
        return self.tree.signal_main(number)

    def _become(self, state: str) -> None:
        previous, self.state = self.state, state
        if self.observer is not None and state != previous:
            self.observer.state_changed(previous, state)

    # ---- the end ----

    def _conclude(self) -> None:
        self.ending = True
        self.streams.drain()
        if self._end.start_failure is not None:
            self._close_tree()
            stage, number, index = self._end.start_failure
            self._fail(stage, number, index)
            return
        outcome = _loaded_conclude()(
            self._end, self.spec, self.plan, self._host, self.tree, self.streams, tuple(self.causes), self._denials
        )
        if self._end.unreaped:
            self._close_tree()
        self._finish(outcome)

    def release(self) -> None:
        """Close the streams and remove the job's cgroup; the driver calls it once the outcome is told.

        Removing a cgroup takes the kernel longer than everything else at an end, so nobody waits for it. Also for one that was
        never launched.
        """
        if self._launching is not None:
            self._launching.abandon()
            self._launching = None
        if self._wall_guard is not None:
            self._wall_guard.close()
        self._close_tree()
        if self._denials is not None:
            self._denials.close()
            self._denials = None
        self.relay_errno = self.streams.relay_errno() or self.relay_errno
        self.streams.close()

    def _close_tree(self) -> None:
        cgroup = self.tree.cgroup if self.tree is not None else None
        if isinstance(self.tree, HelperTree):
            self.tree.close()
        if cgroup is not None and self.keep is not None and cgroup.is_populated():
            self.keep(cgroup)
        elif cgroup is not None:
            try:
                cgroup.remove(tuple([step.path for step in self.plan.cgroup_steps if step.path and not step.text]))
            except OSError as error:
                self._end.warnings.append(f"the job's cgroup is still there: {error}")
        self.tree = None

    def _finish(self, outcome: Outcome) -> None:
        self._clock.stop()
        if self._parting:
            self._clock.killed(native.now_ns(), HELPER_PATIENCE_NS)
        self.outcome = outcome
        self._become(JobState.FAILED if outcome.verdict in ("start_failed", "sandbox_error") else JobState.TERMINATED)

    @property
    def parted(self) -> bool:
        """The init helper is gone too, which the outcome need not wait for where the execution :attr:`tells_early`."""
        return not self._parting

    @property
    def ended_ns(self) -> int:
        """When the main process was reaped (CLOCK_MONOTONIC); 0 before that, and for a job that never ran."""
        return self._end.ended_ns

    @property
    def flushing(self) -> bool:
        """The job is over but relayed bytes still wait for a slow reader."""
        return self.streams.pending()


_conclude: Callable[..., Outcome] | None = None


def _loaded_conclude() -> Callable[..., Outcome]:
    """``conclude``, loaded while the first job runs and then looked up no more: an import statement takes as long as the verdict."""
    global _conclude
    if _conclude is None:
        from supervisor.runtime.conclude import conclude

        _conclude = conclude
    return _conclude
