# SPDX-License-Identifier: Apache-2.0
"""A pool: functions called in warm processes, results and exceptions brought back, order kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pool_tasks
import pytest

import supervisor
from supervisor import ClosedError, ConfigError, Pool, RemoteError


async def test_a_function_is_called_in_another_process_which_is_used_again() -> None:
    async with Pool(1) as pool:
        first = await pool.run(pool_tasks.pid)
        assert first != os.getpid()
        assert await pool.run(pool_tasks.pid) == first
        assert pool.processes == (first,)
        assert await pool.run(pool_tasks.add, 1, second=5) == 6


async def test_an_exception_comes_back_as_itself_with_the_traceback_of_the_worker() -> None:
    async with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"^no$") as caught:
            await pool.run(pool_tasks.refuse, "no")
        cause = caught.value.__cause__
        assert isinstance(cause, RemoteError)
        assert "in refuse" in cause.text
        assert "raise ValueError(text)" in str(cause)
        assert "serve.py" not in cause.text
        assert await pool.run(pool_tasks.add, 1) == 2


async def test_what_cannot_be_pickled_is_told_to_the_caller_and_hurts_nobody() -> None:
    async with Pool(1) as pool:
        worker = await pool.run(pool_tasks.pid)
        with pytest.raises(ConfigError, match=r"lambda.*define them at the top of a module"):
            await pool.run(lambda: 1)
        with pytest.raises(RemoteError, match=r"cannot be pickled.*lock"):
            await pool.run(pool_tasks.make_lock)
        with pytest.raises(RemoteError, match="cannot be unpickled here"):
            await pool.run(pool_tasks.raise_stubborn)
        with pytest.raises(RuntimeError, match="refused there"):
            await pool.run(len, pool_tasks.Touchy("there"))
        with pytest.raises(RemoteError, match="cannot be unpickled here: RuntimeError: refused back"):
            await pool.run(pool_tasks.make_touchy)
        assert await pool.run(pool_tasks.pid) == worker


async def test_what_would_end_a_process_or_confuse_a_future_is_told_too() -> None:
    async with Pool(1) as pool:
        worker = await pool.run(pool_tasks.pid)
        with pytest.raises(RemoteError, match="raised SystemExit: 3"):
            await pool.run(pool_tasks.exit_politely, 3)
        with pytest.raises(RemoteError, match="raised StopIteration: enough"):
            await pool.run(pool_tasks.stop_iteration)
        assert await pool.run(pool_tasks.pid) == worker


async def test_exceptions_and_results_whose_own_methods_raise_are_told_and_end_nobody() -> None:
    """A text that cannot be had, pickling and unpickling that leave the interpreter: neither worker nor pool goes along."""
    async with Pool(1) as pool:
        worker = await pool.run(pool_tasks.pid)
        with pytest.raises(pool_tasks.Mute) as mute:
            await pool.run(pool_tasks.raise_mute)
        assert isinstance(mute.value.__cause__, RemoteError)
        with pytest.raises(RemoteError, match="the task raised Bolting: there"):
            await pool.run(pool_tasks.raise_bolting, "there")
        with pytest.raises(RemoteError, match="returned cannot be pickled: SystemExit: 3"):
            await pool.run(pool_tasks.Bolting, "there")
        with pytest.raises(RemoteError, match="returned cannot be unpickled here: SystemExit: 4"):
            await pool.run(pool_tasks.Bolting, "here")
        with pytest.raises(RemoteError, match="raised cannot be unpickled here: SystemExit: 4") as bolting:
            await pool.run(pool_tasks.raise_bolting, "here")
        assert "in raise_bolting" in bolting.value.text
        assert await pool.run(pool_tasks.pid) == worker


async def test_tasks_and_answers_of_many_megabytes_cross_without_waiting_for_each_other() -> None:
    large = os.urandom(1 << 20) * 12
    async with Pool(2) as pool:
        answers = await asyncio.gather(*[pool.run(pool_tasks.nap, 0, large) for _ in range(6)])
        assert all(answer == large for answer in answers)


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 70_000, 262_144, 1 << 20, (1 << 20) + 1])
async def test_every_size_arrives_whole(size: int) -> None:
    content = os.urandom(size)
    async with Pool(1) as pool:
        assert await pool.map(pool_tasks.nap, [0] * 5, [content] * 5) == [content] * 5


async def test_a_map_keeps_the_order_of_its_items() -> None:
    async with Pool(2) as pool:
        assert await pool.map(pool_tasks.add, range(3000), range(3000)) == [2 * n for n in range(3000)]
        assert await pool.map(pool_tasks.nap, [0.05, 0, 0.02, 0], "abcd") == list("abcd")
        assert [value async for value in pool.map(pool_tasks.add, [1, 2])] == [2, 3]
        assert await pool.map(pool_tasks.add, []) == []


async def test_as_completed_gives_what_is_ready_first() -> None:
    async with Pool(2, min_processes=2) as pool:
        await pool.map(pool_tasks.nap, [0.05, 0.05])
        assert [value async for value in pool.as_completed(pool_tasks.nap, [0.5, 0.01], ["late", "soon"])] == ["soon", "late"]
        assert sorted([value async for value in pool.as_completed(pool_tasks.add, range(2000))]) == list(range(1, 2001))


async def test_a_map_reads_its_items_only_so_far_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    async with Pool(1) as pool:
        async for value in pool.map(pool_tasks.add, items()):
            if value == 10:
                break
        assert 10 <= taken < 5_000


async def test_the_first_exception_of_a_map_ends_it_and_the_pool_goes_on(tmp_path: Path) -> None:
    async with Pool(2) as pool:
        with pytest.raises(TypeError):
            await pool.map(pool_tasks.add, [1, 2, "three", *range(10_000)])
        assert await pool.run(pool_tasks.add, 1) == 2


async def test_tasks_begin_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    path = str(tmp_path / "trace")
    async with Pool(1) as pool:
        tasks = [pool.submit(pool_tasks.append, path, str(n)) for n in range(50)]
        await asyncio.gather(*tasks)
    assert (tmp_path / "trace").read_text().split() == [str(n) for n in range(50)]


async def test_a_slow_task_does_not_hold_up_those_that_came_after_it() -> None:
    async with Pool(2, min_processes=2) as pool:
        slow = pool.submit(pool_tasks.nap, 30)
        assert await asyncio.wait_for(pool.map(pool_tasks.add, range(500)), 20) == list(range(1, 501))
        slow.cancel()


async def test_the_initializer_is_called_once_in_each_worker(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with Pool(1, initializer=pool_tasks.set_up, initargs=(str(path),)) as pool:
        assert await pool.map(pool_tasks.add, range(10)) == list(range(1, 11))
    assert path.read_text() == "set up\n"


async def test_leaving_the_scope_waits_for_the_tasks_given() -> None:
    async with Pool(2) as pool:
        tasks = [pool.submit(pool_tasks.nap, 0.05, n) for n in range(4)]
    assert [task.result() for task in tasks] == [0, 1, 2, 3]
    with pytest.raises(ClosedError):
        await pool.run(pool_tasks.add, 1)
    with pytest.raises(ClosedError):
        await Pool(1).run(pool_tasks.add, 1)


async def test_a_pool_inside_a_supervisor_is_one_of_its_users() -> None:
    async with supervisor.Supervisor() as sup:
        async with Pool(1, supervisor=sup) as pool:
            await pool.run(pool_tasks.add, 1)
            assert [job.pid for job in sup.jobs] == list(pool.processes)
        assert (await sup.run(["true"])).ok


PROGRAM = """
import asyncio
import supervisor

class Point:
    def __init__(self, x):
        self.x = x

def move(point):
    return Point(point.x + 1)

async def main():
    async with supervisor.Pool(1{more}) as pool:
        moved = await pool.run(move, Point(1))
        print(type(moved) is Point, moved.x)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("more", ["", ', preload=["__main__"]'])
def test_functions_and_classes_of_the_main_program_are_found(tmp_path: Path, more: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("{more}", more))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == ("True 2\n", "")


def test_functions_of_a_main_program_run_as_a_module_are_found(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace("{more}", ""))
    done = subprocess.run([sys.executable, "-m", "program"], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True 2\n", "")


def test_a_function_of_an_interactive_session_gets_a_clear_answer() -> None:
    text = """
import asyncio, supervisor
def f(): return 1
async def main():
    async with supervisor.Pool(1) as pool:
        try: await pool.run(f)
        except NameError as error: print(error)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "'f' was defined in an interactive session, where a worker cannot find it: put it into a module\n"


WRONG = [
    ({"max_processes": 0}, "max_processes: must be a number of at least 1"),
    ({"max_processes": 2, "min_processes": 3}, "min_processes: must be between 0 and max_processes"),
    ({"max_processes": 2, "spare": -1}, "spare: must be between"),
    ({"max_tasks": 0}, "max_tasks: must be at least 1"),
    ({"timeout": "soon"}, "timeout: "),
    ({"max_memory": "-1"}, "max_memory: "),
    ({"limits": {"memory_maxi": "1G"}}, "memory_max"),
    ({"command": ["cat"], "preload": ["json"]}, "command: a program has no preload"),
    ({"command": []}, "command"),
    ({"min_processes": "1"}, "min_processes: must be between 0 and"),
    ({"preload": "json"}, r"preload: must be a list of module names such as \['json'\]"),
    ({"best_efort": ["memory_max"]}, "best_efort"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=lambda given: str(given)[:40])
async def test_wrong_arguments_are_told_at_once(options: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, TypeError), match=words):
        Pool(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memry_max": "1G"}, "memry_max: is not a limit.*memory_max"),
        ({"cpu_time_max": "1s"}, "cpu_time_max: counts over the worker's whole life"),
        ({"wall_time_max": "1s"}, "wall_time_max: .*use timeout"),
    ],
)
async def test_terms_that_no_single_task_can_have_are_refused_at_once(limits: dict[str, str], words: str) -> None:
    """A worker that has used a second would be killed at the begin of the next task."""
    with pytest.raises(ConfigError, match=words):
        Pool(1).under(**limits)


async def test_another_event_loop_is_told_to_use_the_executor() -> None:
    async with Pool(1) as pool:

        async def elsewhere() -> int:
            with pytest.raises(ConfigError, match=r"another event loop: use pool\.executor"):
                await pool.run(pool_tasks.add, 1)
            return int(await asyncio.wrap_future(pool.executor().submit(pool_tasks.add, 2)))

        assert await asyncio.to_thread(asyncio.run, elsewhere()) == 3
