# SPDX-License-Identifier: Apache-2.0
"""Workers forked from a template: quick, in a cgroup and limits of their own, jobs like any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pool_tasks
import pytest
from waiting import eventually

from supervisor import BrokenError, JobFailed, Pool, Supervisor, TaskTimeoutError
from supervisor.runtime.pool_template import NO_TEMPLATE, Template, parse_reply
from supervisor.runtime.request import make_spec
from supervisor.worker.wire import REPLY, TEMPLATE_READY

if TYPE_CHECKING:
    from supervisor import Job

pytestmark = pytest.mark.requires("cgroup")


def template_pid(pool: Pool) -> int:
    """The job of the pool's supervisor that is no worker."""
    assert pool._own is not None
    (pid,) = {job.pid for job in pool._own.jobs} - set(pool.processes)
    return pid


async def test_a_forked_worker_has_the_modules_already_and_is_our_child_in_a_cgroup_of_its_own() -> None:
    async with Pool(2, preload=["sqlite3"], limits={"limit_nofile": 77}) as pool:
        assert await pool.run(pool_tasks.loaded, "sqlite3")
        assert await pool.run(pool_tasks.parent) == os.getpid()
        assert await pool.run(pool_tasks.soft_limit, resource.RLIMIT_NOFILE) == 77
        template = Path(f"/proc/{template_pid(pool)}/cgroup").read_text(encoding="ascii").rstrip().rpartition("\n")[2]
        assert await pool.run(pool_tasks.cgroup) != template


async def test_without_a_cgroup_each_worker_imports_by_itself(no_cgroup: None) -> None:
    async with Pool(1, preload=["sqlite3"]) as pool:
        assert await pool.run(pool_tasks.loaded, "sqlite3")


async def test_numpy_works_in_forked_workers_threads_of_its_own_included() -> None:
    async with Pool(2, min_processes=2, preload=["numpy"]) as pool:
        assert await pool.map(pool_tasks.multiply, [400] * 6) == [400.0**3] * 6


async def test_forked_workers_do_not_draw_the_same_numbers() -> None:
    async with Pool(1, preload=["numpy.random"], max_tasks=1) as pool:
        assert len(set(await pool.map(pool_tasks.draw, *[[]])) | {await pool.run(pool_tasks.draw) for _ in range(4)}) == 4


async def test_the_death_of_a_forked_worker_has_an_outcome_and_another_takes_its_place(tmp_path: Path) -> None:
    async with Pool(1, preload=["json"]) as pool:
        for function, argument, code, number in ((pool_tasks.leave, 3, 3, None), (pool_tasks.crash, 11, None, 11)):
            with pytest.raises(JobFailed) as caught:
                await pool.run(function, argument)
            assert (caught.value.outcome.exit.code, caught.value.outcome.exit.signal) == (code, number)
            assert caught.value.outcome.usage.cpu_ns is not None
        with pytest.raises(TaskTimeoutError):
            await pool.under(timeout="100ms").run(pool_tasks.nap, 60)
        with pytest.raises(JobFailed):
            await pool.run(pool_tasks.leave_a_child, str(tmp_path / "trace"))
        assert await pool.run(pool_tasks.add, 1) == 2


async def test_a_template_that_died_is_replaced() -> None:
    async with Pool(1, preload=["json"], max_tasks=1) as pool:
        await pool.run(pool_tasks.add, 1)
        for _ in range(3):
            os.kill(template_pid(pool), signal.SIGKILL)
            assert await pool.run(pool_tasks.add, 1) == 2
            assert await pool.run(pool_tasks.add, 1) == 2


async def test_templates_killed_again_and_again_never_end_the_pool() -> None:
    """Whether importing, forking or idle."""
    chance = random.Random(3)
    async with Pool(2, preload=["json", "sqlite3"], max_tasks=1) as pool:
        assert pool._own is not None
        own = pool._own

        async def kill() -> None:
            for _ in range(40):
                await asyncio.sleep(chance.uniform(0.001, 0.1))
                for pid in {job.pid for job in own.jobs if job.pid} - set(pool.processes):
                    os.kill(pid, signal.SIGKILL)

        killer = asyncio.ensure_future(kill())
        while not killer.done():
            with contextlib.suppress(JobFailed):  # a worker that was not the pool's yet was taken for the template
                assert await pool.run(pool_tasks.add, 1) == 2
        await killer
        assert await pool.map(pool_tasks.add, range(10)) == list(range(1, 11))


async def test_a_template_that_takes_no_more_is_gone_only_when_its_end_of_file_says_so() -> None:
    """While it dies there is a moment in which nothing can be sent to it, and its last answers and its end are still to come."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    async with Supervisor() as sup:
        template = Template(await sup.start(["/bin/sleep", "60"], kill_grace=0), ours)
        template._loaded.set_result(b"")
        asked = template.fork(b"first", ())
        theirs.send(REPLY.pack(7, 0, 0, 0))
        theirs.shutdown(socket.SHUT_RD)
        refused = template.fork(b"second", ())
        assert (await asked) == (7, 0, 0, 0)
        assert (refused.done(), template.gone) == (False, False)
        theirs.close()
        assert (await refused) == NO_TEMPLATE
        assert template.fork(b"third", ()).result() == NO_TEMPLATE


async def test_what_a_template_forked_before_it_died_without_a_word_is_ended() -> None:
    """The child of such a template is ours, and only its cgroup knows it."""
    forked = 0

    def fork(block: bytes, leaf_fd: int) -> asyncio.Future[tuple[int, int, int, int]]:
        nonlocal forked
        child = subprocess.Popen(["/bin/sleep", "600"])
        forked, child.returncode = child.pid, 0  # reaped by whom it concerns
        fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=leaf_fd)
        os.write(fd, str(forked).encode())
        os.close(fd)
        told = asyncio.get_running_loop().create_future()
        told.set_result(NO_TEMPLATE)
        return told

    async with Supervisor() as sup:
        job = await sup.start_forked(make_spec(["worker"]), fork)
        assert (await job.wait()).verdict == "start_failed"
        assert not os.path.exists(f"/proc/{forked}")


async def test_a_module_that_cannot_be_imported_is_told_with_its_exception() -> None:
    async with Pool(1, preload=["no_such_module_anywhere"]) as pool:
        with pytest.raises(BrokenError, match="no_such_module_anywhere") as caught:
            await pool.run(pool_tasks.add, 1)
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)


async def test_a_module_that_keeps_a_thread_is_refused(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        async with Pool(1, preload=["threaded"]) as pool:
            with pytest.raises(BrokenError, match="started 1 threads that outlive a fork"):
                await pool.run(pool_tasks.add, 1)
    finally:
        sys.path.remove(str(tmp_path))


async def test_limits_that_cannot_be_put_on_a_fork_fail_the_start_and_leave_nothing() -> None:
    async with Pool(1, preload=["json"], cwd="/no/such/place") as pool:
        with pytest.raises(BrokenError, match="working_directory"):
            await pool.run(pool_tasks.add, 1)


async def test_many_forks_leave_no_child_behind() -> None:
    async with Pool(3, preload=["json"], max_tasks=1) as pool:
        assert await pool.map(pool_tasks.add, range(60)) == list(range(1, 61))
        await asyncio.sleep(0)
        assert eventually(lambda: len(pool.processes) <= 3)


@pytest.mark.parametrize("given", [True, False])
async def test_a_template_that_never_ends_importing_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    """Neither a caller that gives up, nor leaving the pool, nor a worker that is only kept ready."""
    (tmp_path / "endless_module.py").write_text("import signal\nsignal.pause()\n", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    async with Supervisor() as sup:
        within = sup if given else None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), Pool(2, preload=["endless_module"], supervisor=within) as pool:
                await pool.run(pool_tasks.add, 1)
        async with asyncio.timeout(20), Pool(2, min_processes=2, preload=["endless_module"], supervisor=within):
            pass
        assert sup.jobs == ()


async def test_an_initializer_of_any_size_goes_to_the_workers_of_a_template() -> None:
    async with Pool(1, preload=["json"], initializer=pool_tasks.nap, initargs=(0, bytes(3 << 20))) as pool:
        assert await pool.run(pool_tasks.add, 1) == 2


@pytest.mark.parametrize(
    "said",
    [
        b"no reply",
        REPLY.pack(0, 0, 0, 0),
        REPLY.pack(-7, 0, 0, 0),
        REPLY.pack(-1, 0, 0, 0),
        REPLY.pack(os.getpid(), 1000, 1, 0),
        REPLY.pack(os.getpid(), -1, 1, 0),
        REPLY.pack(os.getpid(), 0, -1, 0),
        REPLY.pack(os.getpid(), 0, 0, 0) + b"more",
    ],
)
def test_a_reply_that_answers_no_request_is_none(said: bytes) -> None:
    assert parse_reply(said) is None


async def test_a_template_that_replies_unasked_or_nonsense_is_given_up() -> None:
    good = REPLY.pack(7, 0, 0, 0)
    for said, requests, expected in (([good, b"x"], 2, [(7, 0, 0, 0), NO_TEMPLATE]), ([good], 0, [])):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        template = Template(cast("Job", None), ours)
        with theirs:
            theirs.send(TEMPLATE_READY)
            replies = [template.fork(b"", (theirs.fileno(),)) for _ in range(requests)]
            for packet in said:
                theirs.send(packet)
            async with asyncio.timeout(20):
                while not template.gone:
                    await asyncio.sleep(0)
            assert [await reply for reply in replies] == expected


#: Its child is no child of the supervisor's, and ends with the template's cgroup.
WRONG = """
import subprocess
from supervisor.worker import template
other = subprocess.Popen(["sleep", "60"])
template.template_fork = lambda *_: (other.pid, {})
"""


@pytest.mark.parametrize("rest", ["0, 0, 0", "3, 1, 0"], ids=["forked", "failed"])
async def test_a_template_that_names_a_process_of_others_has_forked_none(
    rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong.py").write_text(WRONG.format(rest))
    monkeypatch.syspath_prepend(tmp_path)
    async with asyncio.timeout(60), Pool(1, preload=["wrong"]) as pool:
        with pytest.raises(BrokenError, match="No child processes"):
            await pool.run(os.getpid)
