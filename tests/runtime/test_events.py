# SPDX-License-Identifier: Apache-2.0
"""Events: numbered, in the order things happened, bounded per reader, complete or openly not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from programs import python, sh

import supervisor
from supervisor import (
    PIPE,
    BusyError,
    LimitHit,
    Output,
    Overflow,
    Paused,
    Resumed,
    Started,
    StateChanged,
    Terminated,
)
from supervisor.runtime.event_log import EventLog

pytestmark = pytest.mark.usefixtures("holder")


async def collected(reader: Any) -> list[Any]:
    return [event async for event in reader]


def kinds(events: list[Any]) -> list[str]:
    return [event.kind if event.kind != "state_changed" else event.state for event in events]


async def test_a_reader_of_everything_sees_a_whole_life_in_order() -> None:
    async with supervisor.Supervisor() as sup:
        everything = sup.events()
        job = await sup.start(sh("echo out; echo err >&2; exit 3"), capture_output=True)
        outcome = await job.wait()
    events = await collected(everything)
    assert kinds(events)[:2] == ["started", "running"] and kinds(events)[-2:] == ["terminated", "terminated"]
    assert isinstance(events[-1], Terminated) and events[-1].outcome == outcome
    assert [event.number for event in events] == sorted({event.number for event in events})
    assert {event.job for event in events} == {job.id}
    said = {event.stream: event.data for event in events if isinstance(event, Output)}
    assert said == {"stdout": b"out\n", "stderr": b"err\n"}


async def test_a_late_reader_starts_with_how_things_stand_and_follows() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("echo first; read x; echo second"), stdin=PIPE, stdout=PIPE)
        assert job.stdin is not None
        await job.pause()
        reader = job.events()
        await job.resume()
        job.stdin.write(b"go\n")
        await job.wait()
        events = await collected(reader)
    replayed = [event for event in events if event.replayed]
    assert isinstance(replayed[0], Started) and replayed[0].pid == job.pid
    assert isinstance(replayed[-1], StateChanged) and replayed[-1].state == "paused"
    assert any(isinstance(event, Resumed) for event in events) and isinstance(events[-1], Terminated)


async def test_a_late_reader_is_given_what_was_collected_before_it_came() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(sh("echo first; read x; echo second"), stdin=PIPE, capture_output=True)
        assert job.stdin is not None
        async for event in job.events():
            if isinstance(event, Output):
                break
        reader = job.events()
        job.stdin.write(b"go\n")
        await job.wait()
        output = [event for event in await collected(reader) if isinstance(event, Output)]
    assert [event.replayed for event in output] == [True, False]
    assert b"".join(event.data for event in output) == b"first\nsecond\n"


async def test_a_reader_after_the_end_reads_the_end() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["true"])
        outcome = await job.wait()
        events = await collected(job.events())
    assert isinstance(events[-1], Terminated) and events[-1].outcome == outcome and events[-1].replayed


async def test_output_comes_byte_exact_and_before_the_state_it_led_to() -> None:
    program = "import os\nfor n in range(300): os.write(1, bytes([n % 256]) * 1000)"
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python(program), capture_output=True)
        events = await collected(job.events())
        outcome = await job.wait()
    data = b"".join(event.data for event in events if isinstance(event, Output))
    assert data == outcome.stdout == b"".join(bytes([n % 256]) * 1000 for n in range(300))
    over = next(n for n, event in enumerate(events) if isinstance(event, StateChanged) and event.state == "terminated")
    assert not any(isinstance(event, Output) for event in events[over:])


async def test_a_slow_reader_loses_the_oldest_is_told_so_and_still_reads_the_end() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"])
        reader = job.events(max_events=4)
        for _ in range(20):
            await job.pause()
            await job.resume()
        await job.kill()
        events = await collected(reader)
    assert isinstance(events[0], Overflow) and isinstance(events[-1], Terminated) and len(events) == 5
    # started, running; 20 times paused and resumed, each with its state; stopping, terminated, the end
    assert events[0].lost == 2 + 80 + 3 - 4


async def test_much_output_makes_room_by_bytes() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(python("print('x' * 3_000_000, end='')"), capture_output=True)
        reader = job.events(max_bytes=1 << 20)
        outcome = await job.wait()
        events = await collected(reader)
    assert outcome.stdout is not None and len(outcome.stdout) == 3_000_000, "the collected output itself is whole"
    assert any(isinstance(event, Overflow) for event in events) and isinstance(events[-1], Terminated)


async def test_a_limit_is_told_before_the_end_it_caused() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"wall_time_max": 0.1})
        events = await collected(job.events())
    hit = next(n for n, event in enumerate(events) if isinstance(event, LimitHit))
    assert events[hit].limit == "wall_time_max"
    assert "terminated" in kinds(events[hit:]) and "terminated" not in kinds(events[:hit])


async def test_a_job_that_never_ran_has_an_error_and_an_end() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["/nonexistent/program"])
        events = await collected(job.events())
    assert isinstance(events[-1], Terminated) and events[-1].outcome.verdict == "start_failed"
    assert not any(isinstance(event, Started) for event in events)


async def test_two_tasks_cannot_share_one_reader_and_leaving_early_needs_no_clean_up() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["sleep", "60"], limits={"wall_time_max": 30})
        reader = job.events()
        async for event in reader:
            if isinstance(event, StateChanged):
                break
        waiting = asyncio.create_task(anext(reader))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await anext(reader)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await job.pause()
        assert isinstance(await anext(reader), StateChanged) and isinstance(await anext(reader), Paused)
        await job.kill()


async def test_every_reader_ends_with_the_supervisor() -> None:
    async with supervisor.Supervisor() as sup:
        reader = sup.events()
        following = asyncio.create_task(collected(reader))
        await sup.run(["true"])
    assert isinstance((await following)[-1], Terminated)


async def test_who_comes_after_the_end_of_everything_is_not_kept_waiting() -> None:
    async with supervisor.Supervisor() as sup:
        job = await sup.start(["true"])
        await job.wait()
    async with asyncio.timeout(10):
        assert await collected(sup.events()) == []
    assert isinstance((await collected(job.events()))[-1], Terminated)


def test_an_event_costs_those_who_read_it_and_nobody_else() -> None:
    """Ten thousand jobs with a reader each: what happens to one of them is no work for the others'."""

    def emitting_ns(readers: int) -> int:
        log = EventLog()
        kept = [log.add(job, [], max_events=10, max_bytes=10, output=True) for job in range(1, readers + 1)]
        took = []
        for _ in range(20):
            before = time.process_time_ns()
            log.emit(Paused, 1)
            took.append(time.process_time_ns() - before)
        assert not kept[0].finished
        return min(took)

    assert emitting_ns(10_000) < 20 * emitting_ns(1)
