# SPDX-License-Identifier: Apache-2.0
"""PolicyWatch: brings a changed policy file to the jobs that run under it, and says what it could not bring.

Woken by inotify(7), so an idle watch does nothing. A file is looked at when its writer closes it or when it is
put in place; replace a file as a whole (write beside it, then rename) and no half of it is ever seen.
"""

from __future__ import annotations

import asyncio

from supervisor.control.reload import Reload, Running, decide_reload
from supervisor.errors import ClosedError, ConfigError, SupervisorError
from supervisor.kernel.inotify import Inotify
from supervisor.kernel.policy_files import load_policy, watched_paths
from supervisor.model.limits import Limits
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from supervisor.model.policy.policy import Policy
    from supervisor.runtime.job import Job


@value
class JobReload:
    """What a change came to for one job: ``decided``, and of that the limits that were ``refused`` all the same, with the reason."""

    job_id: int
    decided: Reload
    refused: Mapping[str, str] = {}


@value
class Reloaded:
    """One change of the policy. With ``problems`` nothing was applied, and ``policy`` is the one from before."""

    policy: Policy
    jobs: tuple[JobReload, ...] = ()
    problems: tuple[str, ...] = ()


class PolicyWatch:
    """Owns one inotify descriptor; knows the jobs that were started under one policy until they end.

    ``async with PolicyWatch("judge") as watch``: start jobs with ``policy=watch.policy``, tell the watch by
    :meth:`attach`, and iterate: each item is one change that has been applied. One task iterates at a time.
    """

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._policy: Policy | None = None
        self._inotify: Inotify | None = None
        self._news = asyncio.Event()
        self._jobs: dict[int, _Known] = {}
        self._watched: list[str] = []
        self._said: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        """The policy as it was last read without a problem."""
        if self._policy is None:
            raise ClosedError("the watch was never opened: use it inside 'async with'")
        return self._policy

    def attach(self, job: Job, own: Limits = Limits(), policy: Policy | None = None) -> None:
        """From now on changes reach ``job``, which was started under ``policy`` (the current one) and limits ``own`` besides."""
        self._jobs = {number: known for number, known in self._jobs.items() if not known.job.ended}
        self._jobs[id(job)] = _Known(job, own, policy or self.policy)
        self._news.set()  # the policy may have changed since the job was started

    async def __aenter__(self) -> PolicyWatch:
        """Raises :class:`ConfigError` as :func:`load_policy` does, OSError where inotify is used up."""
        self._inotify = Inotify()
        try:
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._on_readable)
            self._policy = await asyncio.to_thread(load_policy, self._reference)
            self._watch()
            self._news.set()  # what was written between reading and watching its files
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; jobs keep the limits they have. Safe to call twice."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            asyncio.get_running_loop().remove_reader(inotify.fileno())
            inotify.close()
        self._news.set()

    def _watch(self) -> None:
        if self._inotify is not None:
            self._watched = watched_paths(self.policy.files)
            self._inotify.watch(self._watched)

    def _on_readable(self) -> None:
        if self._inotify is not None and self._inotify.news():
            self._news.set()

    async def __aiter__(self) -> AsyncIterator[Reloaded]:
        """Every change, when it has been applied; ends when the watch is closed. Cancelling it loses no later change."""
        while True:
            await self._news.wait()
            if self._inotify is None:
                return
            self._news.clear()
            change = await self._look()
            if change is not None:
                yield change

    async def _look(self) -> Reloaded | None:
        assert self._inotify is not None
        self._watch()  # a directory may have come, gone or been replaced
        try:
            found = await asyncio.to_thread(load_policy, self._reference)
            self._said = ()
            changed, self._policy = _meaning(found) != _meaning(self.policy), found
            if watched_paths(found.files) != self._watched:
                self._watch()
                self._news.set()  # and look once more, at what was written meanwhile
            brought = [await self._bring(found, known) for known in list(self._jobs.values()) if known.is_behind(found)]
        except ConfigError as error:
            new, self._said = error.problems != self._said, error.problems
            return Reloaded(policy=self.policy, problems=tuple(str(error).splitlines())) if new else None
        except BaseException:
            self._news.set()  # cancelled: whoever iterates next goes on where this ended
            raise
        return Reloaded(policy=found, jobs=tuple(brought)) if changed or brought else None

    async def _bring(self, found: Policy, known: _Known) -> JobReload:
        execution = known.job._execution
        standing = Running(spec=execution.spec, plan=execution.plan, host=execution.host, policy=known.started, own=known.own)
        decided = decide_reload(standing, found)
        refused = await _apply(known.job, decided.apply)
        known.seen = found
        return JobReload(job_id=known.job.id, decided=decided, refused=refused)


async def _apply(job: Job, limits: Limits) -> dict[str, str]:
    """All together; when that is refused one by one, so that one refusal keeps no other limit back. Returns the refusals."""
    given = limits.given()
    if not given:
        return {}
    try:
        await job.set_limits(limits)
    except (SupervisorError, OSError) as error:
        if len(given) == 1:
            return {next(iter(given)): str(error)}
        refused: dict[str, str] = {}
        for name, amount in given.items():
            refused |= await _apply(job, replace(Limits(), **{name: amount}))
        return refused
    return {}


class _Known:
    """One job: the limits of its own, the policy it was started under, and the policy it was last brought."""

    __slots__ = ("job", "own", "seen", "started")

    def __init__(self, job: Job, own: Limits, policy: Policy) -> None:
        self.job = job
        self.own = own
        self.started = policy
        self.seen = policy

    def is_behind(self, policy: Policy) -> bool:
        return not self.job.ended and _meaning(self.seen) != _meaning(policy)


def _meaning(policy: Policy) -> tuple[object, ...]:
    """What of a policy can make a difference: not where it is written."""
    return policy.limits, policy.best_effort, policy.sandbox, policy.adaptive
