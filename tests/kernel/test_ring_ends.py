# SPDX-License-Identifier: Apache-2.0
"""Rings between real ends: a queue is a deque of bounded bytes, a broadcast loses only what it says, a dead peer is told."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from waiting import SLOW, Line, eventually

from supervisor.errors import BrokenError, BusyError, ClosedError, ConfigError, CorruptError, OverrunError
from supervisor.kernel import memfd
from supervisor.kernel.ring import Ring
from supervisor.kernel.ring_ends import ReaderEnd, WriterEnd
from supervisor.model.grant import VARIABLE, Grant, format_grants

CAPACITY = 4096
PATIENCE = "20s"
HOSTILE = str(Path(__file__).parents[1] / "probes" / "seize_memory.py")


def cost(message: bytes) -> int:
    """Bytes that a message takes of the ring: a record of 16 bytes before it, all in steps of 16."""
    return (16 + len(message) + 15) // 16 * 16


def start(code: str, *grants: Grant, word: str = "") -> subprocess.Popen[str]:
    """A process with these grants."""
    fds = list(dict.fromkeys(fd for grant in grants for fd in grant.fds))
    env = {**os.environ, VARIABLE: format_grants(grants)}
    return subprocess.Popen(
        [sys.executable, "-c", code, word], pass_fds=fds, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed; it must have succeeded."""
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return out.strip()


@pytest.fixture
def queue() -> Iterator[tuple[WriterEnd, ReaderEnd]]:
    with Ring("queue", CAPACITY, 1, False, False) as ring:
        with ring.take_writer(WriterEnd) as writer, ring.take_reader(0, ReaderEnd) as reader:
            yield writer, reader
        assert writer.closed and reader.closed


# ---- against a model ----

messages = st.one_of(st.binary(max_size=40), st.binary(min_size=200, max_size=1500), st.just(b""))


class QueueAgainstDeque(RuleBasedStateMachine):
    """One writer, one reader, in any order of calls, ends reopened in between."""

    @initialize()
    def make(self) -> None:
        self.ring = Ring("queue", CAPACITY, 1, False, False)
        self.writer = self.ring.take_writer(WriterEnd)
        self.reader = self.ring.take_reader(0, ReaderEnd)
        self.model: deque[bytes] = deque()

    def room(self) -> int:
        return CAPACITY - sum(map(cost, self.model))

    @rule(message=messages)
    def write(self, message: bytes) -> None:
        if cost(message) <= self.room():
            self.writer.write(message, timeout=0)
            self.model.append(message)
        else:
            with pytest.raises(TimeoutError):
                self.writer.write(message, timeout=0)

    @rule(many=st.lists(messages, max_size=30))
    def write_many(self, many: list[bytes]) -> None:
        fitting = 0
        left = self.room()
        while fitting < len(many) and cost(many[fitting]) <= left:
            left -= cost(many[fitting])
            fitting += 1
        assert self.writer.write_many(many, timeout=0) == fitting
        self.model.extend(many[:fitting])

    @rule(size=st.integers(CAPACITY - 15, CAPACITY * 3))
    def write_what_can_never_fit(self, size: int) -> None:
        with pytest.raises(ConfigError, match="does not fit"):
            self.writer.write(b"x" * size, timeout=0)

    @rule()
    def read(self) -> None:
        if self.model:
            assert self.reader.read(timeout=0) == self.model.popleft()
        else:
            with pytest.raises(TimeoutError):
                self.reader.read(timeout=0)

    @rule(most=st.integers(1, 50))
    def read_many(self, most: int) -> None:
        got = self.reader.read_many(most, timeout=0)
        assert got == [self.model.popleft() for _ in range(min(most, len(self.model)))]

    @precondition(lambda self: self.model)
    @rule(size=st.integers(0, 1600))
    def read_into(self, size: int) -> None:
        buffer = bytearray(size)
        if len(self.model[0]) > size:
            with pytest.raises(ConfigError, match="does not fit"):
                self.reader.read_into(buffer, timeout=0)
        else:
            message = self.model.popleft()
            assert self.reader.read_into(buffer, timeout=0) == len(message)
            assert buffer[: len(message)] == message

    @invariant()
    def readiness_is_what_there_is(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.reader.arm() == bool(self.model)
        self.reader.disarm()

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        self.ring.close()


class BroadcastAgainstList(RuleBasedStateMachine):
    """One writer that never waits, three readers that each get everything, or hear exactly how much they lost."""

    @initialize()
    def make(self) -> None:
        self.ring = Ring("news", CAPACITY, 3, True, False)
        self.writer = self.ring.take_writer(WriterEnd)
        self.readers = [self.ring.take_reader(number, ReaderEnd) for number in range(3)]
        self.model: list[bytes] = []
        self.at = [0, 0, 0]

    @rule(many=st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=300, max_size=496)), max_size=30))
    def write(self, many: list[bytes]) -> None:
        assert self.writer.write_many(many, timeout=0) == len(many)
        self.model += many

    @rule(number=st.integers(0, 2), most=st.integers(1, 40), how=st.sampled_from(["read", "read_into", "read_many"]))
    def read(self, number: int, most: int, how: str) -> None:
        at, reader, buffer = self.at[number], self.readers[number], bytearray(500)
        try:
            if how == "read_many":
                got = reader.read_many(most, timeout=0)
            elif how == "read_into":
                most, got = 1, [bytes(buffer[: reader.read_into(buffer, timeout=0)])]
            else:
                most, got = 1, [reader.read(timeout=0)]
        except TimeoutError:
            assert at == len(self.model)
        except OverrunError as error:
            assert sum(map(cost, self.model[at:])) > CAPACITY, "nothing is lost that still fits"
            assert 0 < error.lost < len(self.model) - at, "the newest is still there"
            self.at[number] += error.lost
        else:
            assert got == self.model[at : at + most]
            self.at[number] += len(got)

    def teardown(self) -> None:
        for end in (self.writer, *self.readers):
            end.close()
        self.ring.close()


RUNS = settings(max_examples=60 if SLOW == 1 else 6, stateful_step_count=40, deadline=None)
QueueAgainstDeque.TestCase.settings = RUNS
BroadcastAgainstList.TestCase.settings = RUNS
TestQueueAgainstDeque = QueueAgainstDeque.TestCase
TestBroadcastAgainstList = BroadcastAgainstList.TestCase


# ---- two processes ----

RANDOM_WRITER = """
import random, sys
from supervisor.kernel.ring_ends import WriterEnd
writer = WriterEnd.open("q")
dice = random.Random(7)
number = 0
while number < 20000:
    batch = []
    for _ in range(dice.choice([1, 1, 3, 200])):
        batch.append(number.to_bytes(4, "big") + bytes([number % 251]) * dice.choice([0, 1, 60, 61, 5000]))
        number += 1
    if len(batch) == 1:
        writer.write(batch[0])
    else:
        writer.write_many(batch)
print(number)
writer.close()
"""


def test_two_processes_exchange_messages_of_random_sizes_and_then_the_end() -> None:
    with Ring("q", 1 << 15, 1, False, False) as ring:
        reader = ring.take_reader(0, ReaderEnd)
        process = start(RANDOM_WRITER, ring.grant_writer())
        ring.release()
        dice = random.Random(1)
        number = 0
        with pytest.raises(EOFError, match="has closed it and everything is read"):
            while True:
                for message in reader.read_many(dice.choice([1, 5, 4096]), timeout=PATIENCE):
                    assert message[:4] == number.to_bytes(4, "big")
                    assert message[4:].strip(bytes([number % 251])) == b""
                    number += 1
        assert finish(process) == str(number)
        reader.close()


def test_a_writer_killed_at_any_moment_leaves_every_message_up_to_its_last_commit() -> None:
    """kill -9 after a random number of messages, often in the middle of one; what is read is whole and in order."""
    code = """
from supervisor.kernel.ring_ends import WriterEnd
writer = WriterEnd.open("q")
number = 0
while True:
    writer.write_many([(number + n).to_bytes(4, "big") * 300 for n in range(7)])
    number += 7
"""
    dice = random.Random(3)
    for _ in range(12):
        with Ring("q", 1 << 16, 1, False, False) as ring:
            reader = ring.take_reader(0, ReaderEnd)
            process = start(code, ring.grant_writer())
            ring.release()
            number, last = 0, dice.randrange(3000)
            with pytest.raises(BrokenError, match="the other side of ring q is gone"):
                while True:
                    for message in reader.read_many(timeout=PATIENCE):
                        assert message == number.to_bytes(4, "big") * 300
                        number += 1
                    if number >= last and process.poll() is None:
                        process.kill()
            assert number >= last
            process.communicate()
            reader.close()


def test_a_successor_of_a_killed_writer_goes_on_with_the_ring() -> None:
    """The memory is as it was at the last commit; the successor continues the numbers of the messages."""
    code = """
import signal, sys
from supervisor.kernel.ring_ends import WriterEnd
writer = WriterEnd.open("q")
writer.write_many([bytes([int(sys.argv[1]), n]) for n in range(5)])
print("written", flush=True)
signal.pause()
"""
    with Ring("q", CAPACITY, 1, False, False) as ring:
        grant = ring.grant_writer()
        reader = ring.take_reader(0, ReaderEnd)
        for life in range(3):
            process = start(code, grant, word=str(life))
            said = process.stdout.readline() if process.stdout else ""
            process.kill()
            assert (said, process.communicate()[1]) == ("written\n", "")
        assert reader.read_many(timeout=0) == [bytes([life, n]) for life in range(3) for n in range(5)]
        reader.close()


def test_a_reader_killed_while_the_writer_sleeps_wakes_it_with_an_error() -> None:
    with Ring("q", CAPACITY, 1, False, False) as ring:
        writer = ring.take_writer(WriterEnd)
        process = start("print(__import__('sys').stdin.read())", ring.grant_reader())
        ring.release()
        failure: list[BaseException] = []

        def fill() -> None:
            try:
                while True:
                    writer.write(b"x" * 100, timeout=PATIENCE)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=fill)
        thread.start()
        process.kill()
        process.communicate()
        thread.join()
        assert type(failure[0]) is BrokenError
        with pytest.raises(BrokenError):
            writer.write(b"x")
        writer.close()


def test_a_new_reader_takes_the_place_of_a_dead_one_and_goes_on_where_it_stopped() -> None:
    code = """
from supervisor.kernel.ring_ends import ReaderEnd
reader = ReaderEnd.open("q")
print(*[reader.read().decode() for _ in range(3)], flush=True)
__import__("os")._exit(0)
"""
    with Ring("q", CAPACITY, 1, False, False) as ring:
        writer = ring.take_writer(WriterEnd)
        writer.write_many([str(n).encode() for n in range(9)])
        for life in range(3):
            if life:
                ring.renew_reader(writer)
            process = start(code, ring.grant_reader())
            ring.release()
            assert finish(process) == " ".join(map(str, range(life * 3, life * 3 + 3)))
        writer.close()


def test_jobs_talk_to_each_other_through_a_ring_whose_owner_only_gives_the_ends() -> None:
    reading = """
from supervisor.kernel.ring_ends import ReaderEnd
print(sum(len(message) for message in ReaderEnd.open("q")))
"""
    writing = """
from supervisor.kernel.ring_ends import WriterEnd
writer = WriterEnd.open("q")
for _ in range(100):
    writer.write_many([b"x" * 50] * 100)
writer.close()
"""
    with Ring("q", CAPACITY, 1, False, False) as ring:
        reader, writer = start(reading, ring.grant_reader()), start(writing, ring.grant_writer())
        ring.release()
        finish(writer)
        assert finish(reader) == str(100 * 100 * 50)


def test_a_signal_interrupts_a_wait_and_its_handler_runs(queue: tuple[WriterEnd, ReaderEnd]) -> None:
    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            queue[1].read()
    finally:
        signal.signal(signal.SIGALRM, before)
    queue[0].write(b"still works")
    assert queue[1].read() == b"still works"


def test_a_wait_ends_in_time(queue: tuple[WriterEnd, ReaderEnd]) -> None:
    assert queue[1].read_many(timeout="30ms") == []
    with pytest.raises(TimeoutError, match="no message in ring queue in time"):
        queue[1].read(timeout=0.03)
    with pytest.raises(ConfigError, match="timeout: "):
        queue[1].read(timeout="soon")


# ---- hostile peers ----


def test_a_hostile_reader_cannot_change_a_message() -> None:
    """Once the writer is ours, the kernel lets nobody begin to write; by no way that the program of test_segment.py knows."""
    with Ring("news", CAPACITY, 1, True, False) as ring:
        writer = ring.take_writer(WriterEnd)
        grant = ring.grant_reader()
        done = subprocess.run(
            [sys.executable, HOSTILE, str(grant.fds[0]), str(CAPACITY)],
            pass_fds=grant.fds,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "\n"
        writer.close()


def test_garbage_in_a_readers_cell_is_an_error_of_the_writer_and_garbage_in_the_head_one_of_the_reader() -> None:
    """Words of both pages and of the messages; whatever comes is a message, nothing, or an error of ours."""
    dice = random.Random(5)
    corrupt = 0
    for turn in range(300):
        with Ring("q", CAPACITY, 1, turn % 2 == 1, False) as ring:
            fd = ring.grant_writer().fds[0]
            raw = mmap.mmap(fd, 0)
            ring = _reopened(ring)
            writer, reader = ring.take_writer(WriterEnd), ring.take_reader(0, ReaderEnd)
            cell = mmap.mmap(ring._cells[0].fd, 0)
            writer.write_many([b"x" * n for n in range(40)])
            for _ in range(3):
                page = dice.choice([raw, raw, cell])
                at = dice.choice([16, 64, 72, 80, 88, 128, 136] + [mmap.PAGESIZE + 32 * n for n in range(5)] * (page is raw))
                page[at : at + 8] = dice.choice([b"\xff" * 8, bytes(8), dice.randbytes(8), dice.randrange(CAPACITY).to_bytes(8, "little")])
            for _ in range(8):
                for action in (
                    lambda: reader.read_many(timeout=0),  # noqa: B023
                    lambda: writer.write(b"y" * 400, timeout=0),  # noqa: B023
                    lambda: reader.arm() and None,  # noqa: B023
                    lambda: writer.arm(100) and None,  # noqa: B023
                ):
                    try:
                        action()
                    except CorruptError:
                        corrupt += 1
                    except (TimeoutError, OverrunError, BrokenError, EOFError):
                        pass
            for end in (writer, reader, raw, cell):
                end.close()
    assert corrupt > 100


def _reopened(ring: Ring) -> Ring:
    """The ring with its writing end free again, after a test took the descriptor."""
    ring._writer_given = False
    for cell in ring._cells:
        cell.given[0] = False
    return ring


def test_memory_that_is_no_ring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blank = memfd.create("blank", 3 * CAPACITY)
    try:
        monkeypatch.setenv(VARIABLE, f"q:writer:queue:{CAPACITY}:{blank}")
        with pytest.raises(CorruptError, match="is no ring of this size"):
            WriterEnd.open("q")
    finally:
        os.close(blank)


def test_a_peer_that_floods_the_socket_does_not_keep_a_wait_from_ending() -> None:
    """Bytes without messages behind them: the time-out is kept."""
    code = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
print("go", flush=True)
while True:
    s.send(b"x")
"""
    with Ring("q", CAPACITY, 1, False, False) as ring:
        reader = ring.take_reader(0, ReaderEnd)
        grant = ring.grant_writer()
        fd = grant.fds[2]
        process = subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True)
        ring.release()
        assert process.stdout is not None and process.stdout.readline() == "go\n"
        assert reader.read_many(timeout="50ms") == []
        process.kill()
        process.communicate()
        reader.close()


# ---- rules ----


def test_each_end_is_taken_once() -> None:
    with Ring("q", CAPACITY, 1, False, False) as ring:
        writer, reader = ring.take_writer(WriterEnd), ring.take_reader(0, ReaderEnd)
        for again in (lambda: ring.take_writer(WriterEnd), ring.grant_writer, lambda: ring.take_reader(0, ReaderEnd), ring.grant_reader):
            with pytest.raises(BusyError, match="taken"):
                again()
        writer.close()
        reader.close()


def test_an_end_in_use_by_one_thread_is_busy_for_another(queue: tuple[WriterEnd, ReaderEnd]) -> None:
    writer, reader = queue
    with Line() as line:

        def wait() -> None:
            os.write(line.end, b"waiting\n")
            while True:  # the other thread may have been inside first
                with contextlib.suppress(BusyError):
                    reader.read(timeout=PATIENCE)
                    return
                time.sleep(0.001)

        thread = threading.Thread(target=wait)
        thread.start()
        assert line.read() == "waiting"

        def is_busy() -> bool:
            try:
                reader.read_many(timeout=0)
            except BusyError:
                return True
            return False

        eventually(is_busy)  # with pauses between: the thread gets no turn inside as long as we are there ourselves
        with pytest.raises(BusyError):
            reader.close()
        writer.write(b"done")
        thread.join()


def test_a_forked_process_closes_its_copies_and_not_the_ends(queue: tuple[WriterEnd, ReaderEnd]) -> None:
    """Also when it only ends, and Python takes them away."""
    writer, reader = queue
    writer.write(b"before")
    pid = os.fork()
    if pid == 0:
        try:
            writer.close()
            reader.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    writer.write(b"after")
    assert [reader.read(timeout=PATIENCE), reader.read(timeout=PATIENCE)] == [b"before", b"after"]


def test_closed_ends_and_rings_say_so() -> None:
    ring = Ring("q", CAPACITY, 1, False, False)
    writer, reader = ring.take_writer(WriterEnd), ring.take_reader(0, ReaderEnd)
    for end in (writer, reader, ring):
        end.close()
        end.close()
    for action in (lambda: writer.write(b""), reader.read, reader.fileno, ring.grant_reader, ring.seal):
        with pytest.raises(ClosedError, match="closed"):
            action()


@pytest.mark.parametrize(("readers", "broadcast"), [(0, False), (2, False), (0, True), (65, True)])
def test_a_wrong_number_of_readers_is_refused(readers: int, broadcast: bool) -> None:
    with pytest.raises(ConfigError, match="readers: "):
        Ring("q", CAPACITY, readers, broadcast, False)


def test_a_sealed_ring_has_no_more_writers() -> None:
    """Sealed before anybody could write: neither here nor in a job."""
    with Ring("q", CAPACITY, 1, False, False) as ring:
        ring.seal()
        ring.seal()
        with pytest.raises(ConfigError, match="sealed"):
            ring.grant_writer()
        with pytest.raises(ConfigError, match="sealed"):
            ring.take_writer(WriterEnd)
