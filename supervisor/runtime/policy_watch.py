# SPDX-License-Identifier: Apache-2.0
"""PolicyWatch: brings a changed policy file to the jobs that run under it, and says what it could not bring.

Woken by inotify(7), so an idle watch does nothing. A file is looked at when its writer closes it or when it is
put in place; replace a file as a whole (write beside it, then rename) and no half of it is ever seen.
"""

from __future__ import annotations

import asyncio

from supervisor.control.reload import Reload, try_reload
from supervisor.errors import ClosedError, ConfigError, SupervisorError
from supervisor.kernel.inotify import Inotify
from supervisor.kernel.policy_files import load_policy, watched_paths
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any, Protocol

    from supervisor.model.host import Host
    from supervisor.model.policy.policy import Policy

    class AdjustableJob(Protocol):
        """What a watch needs of a job."""

        @property
        def id(self) -> int: ...

        @property
        def ended(self) -> bool: ...

        async def set_limits(self, **limits: Any) -> object: ...


@value
class JobReload:
    """What a change came to for one job: ``decided``, and what refused it although it was to be applied."""

    job_id: int
    decided: Reload
    refused: str = ""


@value
class Reloaded:
    """One change of the policy. With ``problems`` nothing was applied, and ``policy`` is the one from before."""

    policy: Policy
    jobs: tuple[JobReload, ...] = ()
    problems: tuple[str, ...] = ()


class PolicyWatch:
    """Owns one inotify descriptor; knows the jobs that were started under one policy until they end.

    ``async with PolicyWatch("judge", host) as watch``: start jobs with ``policy=watch.policy``, tell the watch by
    :meth:`attach`, and iterate: each item is one change that has been applied. One task iterates at a time.
    """

    def __init__(self, reference: str, host: Host) -> None:
        self._reference = reference
        self._host = host
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

    def attach(self, job: AdjustableJob, own: Limits = Limits(), policy: Policy | None = None) -> None:
        """From now on changes reach ``job``, which was started under ``policy`` (the current one) and limits ``own`` besides."""
        self._jobs = {number: known for number, known in self._jobs.items() if not known.job.ended}
        self._jobs[job.id] = _Known(job, own, policy or self.policy)
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
        decided = try_reload(known.held, found, known.own, self._host)
        refused = ""
        try:
            if decided.apply:
                await known.job.set_limits(**decided.apply)
            known.held = _kept(known.held, found, decided)
        except (SupervisorError, OSError) as error:
            refused = str(error)
        known.seen = found
        return JobReload(job_id=known.job.id, decided=decided, refused=refused)


class _Known:
    """One job: the limits of its own, the policy it is held to, and the policy it was last brought."""

    __slots__ = ("held", "job", "own", "seen")

    def __init__(self, job: AdjustableJob, own: Limits, policy: Policy) -> None:
        self.job = job
        self.own = own
        self.held = policy
        self.seen = policy

    def is_behind(self, policy: Policy) -> bool:
        return not self.job.ended and _meaning(self.seen) != _meaning(policy)


def _kept(held: Policy, found: Policy, decided: Reload) -> Policy:
    """What the job is held to after a change: the new policy, but for what was deferred."""
    old = {item.key: getattr(held.limits, item.key) for item in decided.deferred if item.key in LIMITS}
    return replace(found, limits=replace(found.limits, **old), sandbox=held.sandbox, best_effort=held.best_effort)


def _meaning(policy: Policy) -> tuple[object, ...]:
    """What of a policy can make a difference: not where it is written."""
    return policy.limits, policy.best_effort, policy.sandbox, policy.adaptive
