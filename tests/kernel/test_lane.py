# SPDX-License-Identifier: Apache-2.0
"""Bodies that go through shared memory: whole and in order, and whatever else is said of such memory ends the connection."""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import RawEnd, raw_pair, two, working

from supervisor import BrokenError, ConfigError, Peer, Terms, TimedOutError
from supervisor.kernel import memfd
from supervisor.kernel.descriptor import Descriptor
from supervisor.kernel.lane import LaneIn, LaneOut
from supervisor.kernel.link import Link
from supervisor.kernel.packet_socket import make_pair
from supervisor.kernel.peer import LANES_VARIABLE, VARIABLE, connect
from supervisor.model import frames
from supervisor.model.frames import JOB_TERMS, LANE, LANE_BYTES, LANE_MEMORY, LANE_OFFER, LANE_PART, LANE_PART_BYTES, LANE_PLACE, LANE_TAKEN

SIZE = LANE_BYTES.to_bytes(8, "little")
BODY = 20_000


@contextmanager
def laned(ours: Terms = JOB_TERMS, theirs: Terms = JOB_TERMS) -> Iterator[tuple[Peer, Peer]]:
    """A supervisor's end (with a job's terms) and a job's, which have said to each other that they take bodies from lanes."""
    first, second = make_pair()
    with Peer(first, ours) as a, Peer(second, theirs, lanes=True) as b:
        a.send(b"here")
        b.send(b"here")
        a.receive(10)
        b.receive(10)
        yield a, b


def memory(size: int = LANE_BYTES, seals: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, flags: int = 0) -> int:
    fd = os.memfd_create("lane", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def write_only(fd: int) -> int:
    """The same memory by a descriptor that cannot read."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    finally:
        os.close(fd)


def give(end: RawEnd, fd: int | None = None, size: bytes = SIZE) -> bool:
    """Pass on a lane's memory."""
    mine = memory() if fd is None else fd
    end.write(frames.encode_lane(LANE_MEMORY, body=size, descriptors=1), (mine,))
    os.close(mine)
    return True


def part(size: int, length: int) -> bytes:
    return frames.encode_lane(LANE_PART, body=LANE_PLACE.pack(size, length))


def laid(number: int, size: int, length: int, flags: int = 0) -> bytes:
    return frames.laid(frames.encode(frames.DATA, flags, number, b"", 0), size, length)


# ---- what arrives ----


@pytest.mark.parametrize("size", [16383, 16384, 65536, 65537, LANE_PART_BYTES, LANE_PART_BYTES + 1, 3 * LANE_BYTES + 7, 16 << 20])
def test_a_body_of_any_size_arrives_as_it_was_and_nothing_is_sealed(size: int) -> None:
    with laned() as (a, b):
        for _ in range(3):
            body = os.urandom(size)
            with working(functools.partial(a.send, body)):
                message = b.receive(10)
            assert message.body == body
            assert message.sealed is None and message.size == size


def test_a_body_above_what_the_receiver_takes_from_a_lane_is_sealed() -> None:
    with laned(theirs=Terms(lane_max_bytes=100_000)) as (a, b):
        for size in (100_000, 100_001):
            with working(functools.partial(a.send, bytes(size))):
                assert (b.receive(10).sealed is None) is (size == 100_000)


def test_bodies_of_all_sizes_keep_their_order_beside_small_ones() -> None:
    sizes = [3 << 20, 10, 60_000, 5 << 20, 60_000, 0, 20_000, 700_000] * 4
    with laned() as (a, b):
        with working(lambda: a.send_many(bytes([at]) * size for at, size in enumerate(sizes))):
            found = [b.receive(10).body for _ in sizes]
        assert [len(body) for body in found] == sizes
        assert all(bytes(body) == bytes([at]) * len(body) for at, body in enumerate(found))


def test_large_bodies_may_cross() -> None:
    """Each side's word that it has copied goes past its own body, which waits for the other side's word."""
    body = os.urandom(3 * LANE_BYTES)
    found: list[bytes] = []

    def talk(peer: Peer) -> None:
        for _ in range(3):
            peer.send(body)
            found.append(bytes(peer.receive(10).body))

    with laned() as (a, b), working(lambda: talk(b)):
        talk(a)
    assert found == [body] * 6


def test_a_body_that_must_be_sent_in_time_does_not_wait_for_room_in_the_lane() -> None:
    """Half of it could be there when the time is over."""
    body = os.urandom(3 * LANE_BYTES)
    with laned() as (a, b):
        with working(lambda: a.send(body, timeout=10)):
            pass  # nobody reads meanwhile
        message = b.receive(10)
        assert message.body == body and message.sealed is not None


def test_a_sender_behind_a_body_that_waits_for_room_gives_up_in_time() -> None:
    body = os.urandom(3 * LANE_BYTES)
    with laned() as (a, b):
        with pytest.raises(TimedOutError, match="no answer"):
            a.request(body, timeout=0.01)

        def give_up() -> None:
            with pytest.raises(TimedOutError, match="takes no more"):
                a.send(b"late", timeout=0.01)

        with working(give_up):
            pass
        with working(lambda: a.send(b"next", timeout=10)):
            assert [bytes(b.receive(10).body), b.receive(10).body] == [body, b"next"]


def test_bodies_that_cross_do_not_wait_for_words_behind_each_other() -> None:
    """Both have copied nearly half a lane, take it, and say so when their own bodies already wait for room, which is for that word."""

    def go_on() -> None:
        for _ in range(10):
            for link in links:
                link.flush()
                link.fill()

    def post(size: int, count: int) -> None:
        for link in links:
            for _ in range(count):
                link.outbox.post(frames.DATA, bytes(size))

    def take() -> None:
        for link in links:
            while link.inbox:
                link.take()
            link.settle()
            link.acknowledge()

    with laned() as (a, b):
        links = (a._link, b._link)
        go_on()
        post(65_536, 3)  # so that the second large one below does not fit in front of the lane's end
        go_on()
        take()
        go_on()
        post(65_472, 30)
        go_on()
        post(LANE_PART_BYTES - 64, 2)
        for link in links:
            link.flush()
            assert link.outbox.lane.blocked and not link.broken
        take()
        go_on()
        assert not any(link.outbox.queue or link.broken for link in links)


def test_answers_of_any_size_come_back() -> None:
    """Large ones sealed: no window bounds the copies."""
    with laned() as (a, b):
        for size in (60_000, 1 << 20):
            with working(lambda: b.reply(b.receive(10), bytes(size))):  # noqa: B023 -- done before the next
                answer = a.request(b"?", timeout=10)
            assert answer.size == size
            assert (answer.sealed is None) is (size == 60_000)


@pytest.mark.parametrize("mapped", [True, False])
def test_what_the_sender_writes_afterwards_changes_no_message(mapped: bool) -> None:
    fd = memory()
    lane = LaneIn(Descriptor(os.dup(fd)), LANE_BYTES, mapped)
    os.pwrite(fd, b"a" * BODY, 0)
    body = lane.take(BODY, BODY, True)
    os.pwrite(fd, b"b" * BODY, 0)
    assert body == b"a" * BODY
    lane.close()
    os.close(fd)


@given(st.lists(st.integers(1, LANE_PART_BYTES), min_size=1, max_size=12), st.booleans())
def test_both_sides_know_where_each_part_lies(sizes: list[int], mapped: bool) -> None:
    out = LaneOut()
    into = LaneIn(Descriptor(os.dup(out.fd)), LANE_BYTES, mapped)
    try:
        for number, size in enumerate(sizes):
            content = bytes([number + 1]) * size
            if not out.put(content):
                out.taken(into.position)
                assert out.put(content), "an empty lane has room for every part"
            assert into.take(size, size, True) == content
            assert into.position == out.position
    finally:
        os.close(out.fd)
        out.close()
        into.close()


def test_reading_a_job_s_lane_takes_no_memory_for_what_it_left_out() -> None:
    fd = memory()
    lane = LaneIn(Descriptor(os.dup(fd)), LANE_BYTES, mapped=False)
    assert lane.take(BODY, BODY, True) == bytes(BODY)
    assert os.fstat(fd).st_blocks == 0
    lane.close()
    os.close(fd)


def test_a_full_lane_keeps_what_was_not_copied() -> None:
    out = LaneOut()
    os.close(out.fd)
    assert [out.put(bytes(LANE_PART_BYTES)) for _ in range(5)] == [True] * 4 + [False]
    out.taken(LANE_PART_BYTES)
    assert out.put(bytes(LANE_PART_BYTES))
    out.close()


# ---- memory and descriptors ----


def test_no_lane_is_made_for_what_is_small() -> None:
    with laned() as (a, b):
        a.send(bytes(frames.LANE_BODY_MIN_BYTES - 100))
        b.receive(10)
        assert a._link.outbox.lane.memory is None


def test_an_empty_lane_gives_its_memory_back_and_works_on() -> None:
    out = LaneOut()
    try:
        out.put(bytes(LANE_PART_BYTES))
        out.give_back()
        assert os.fstat(out.fd).st_blocks, "not copied yet"
        out.taken(out.position)
        out.give_back()
        assert not os.fstat(out.fd).st_blocks and not out.in_use
        assert out.put(b"again")
    finally:
        os.close(out.fd)
        out.close()


@given(st.lists(st.integers(1, LANE_PART_BYTES), min_size=1, max_size=12), st.integers(0, 2 * LANE_PART_BYTES))
def test_a_lane_gives_back_all_but_what_is_still_to_be_copied(sizes: list[int], unsaid: int) -> None:
    out = LaneOut()
    try:
        with mmap.mmap(out.fd, LANE_BYTES) as seen:
            for size in sizes:
                out.taken(max(0, out.position - unsaid))
                assert out.put(b"x" * size)
            out.taken(max(0, out.position - unsaid))
            kept = min(unsaid, out.position)
            held = [at % LANE_BYTES for at in range(out.position - kept, out.position)][:: mmap.PAGESIZE // 64]
            before = [seen[at] for at in held]
            out.give_back()
            assert [seen[at] for at in held] == before
        assert os.fstat(out.fd).st_blocks * 512 <= kept + 2 * mmap.PAGESIZE
        assert out.in_use is bool(kept)
    finally:
        os.close(out.fd)
        out.close()


def test_nobody_keeps_the_sender_from_giving_pages_back() -> None:
    """The seal against future writes would: it leaves the mapping writable and forbids holes."""
    out = LaneOut()
    try:
        with pytest.raises(PermissionError):
            fcntl.fcntl(out.fd, fcntl.F_ADD_SEALS, memfd.SEAL_FUTURE_WRITE)
    finally:
        os.close(out.fd)
        out.close()


def test_nothing_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with laned() as (a, b):
        a.send(bytes(BODY))
        b.receive(10)
        b.send(bytes(BODY))
        a.receive(10)
        assert len(os.listdir("/proc/self/fd")) - before <= 6, "one for each mapping"
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_copied_of_answers_is_said_with_the_next_request() -> None:
    """Nobody acknowledges answers, so nothing else takes the word along until it is half a lane."""
    with laned() as (a, b):
        for _ in range(3):
            with working(lambda: a.reply(a.receive(10), bytes(BODY))):
                b.request(b"?", timeout=10)
        lane = a._link.outbox.lane.memory
        assert lane is not None
        a._link.fill()
        lane.give_back()
        assert lane.position - lane._taken <= BODY + frames.LANE_ALIGN_BYTES, "of the last one at most"


def test_without_memory_for_a_lane_bodies_go_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(24, "too many open files")

    with laned() as (a, b):
        monkeypatch.setattr("supervisor.kernel.lane.memfd.create", fails)
        for size in (BODY, 100_000):
            with working(functools.partial(a.send, bytes(size))):
                assert b.receive(10).size == size
        assert a._link.outbox.lane.memory is None


def test_whoever_waits_for_room_in_the_lane_hears_of_the_other_side_s_end() -> None:
    """It looked for room again and again, for ever."""

    def send() -> None:
        with pytest.raises(BrokenError, match="closed its end"):
            a.send(b"behind it")

    with laned() as (a, b):
        with pytest.raises(TimedOutError):
            a.request(bytes(3 * LANE_BYTES), timeout=0.01)
        assert a._link.outbox.lane.blocked
        b.close()
        with working(send):
            pass


def test_a_body_that_its_sender_never_finished_is_no_message() -> None:
    with raw_pair() as (fd, end), Peer(fd, JOB_TERMS, lanes=True) as peer:
        end.hello()
        give(end)
        end.write(part(3 * LANE_PART_BYTES, LANE_PART_BYTES))
        end.close()
        with pytest.raises(BrokenError, match="closed its end"):
            peer.receive(10)


def test_a_forked_process_that_closes_its_copy_leaves_the_lanes_alone() -> None:
    body = os.urandom(3 * LANE_BYTES)
    with laned() as (a, b):
        for end, other in ((a, b), (b, a)):
            with working(functools.partial(end.send, body)):
                other.receive(10)
        end_of_child = os.fork()
        if not end_of_child:
            a.close()
            b.close()
            os._exit(0)
        assert os.waitpid(end_of_child, 0)[1] == 0
        for end, other in ((a, b), (b, a)):
            with working(functools.partial(end.send, body)):
                assert other.receive(10).body == body


def test_a_word_that_found_the_socket_full_is_said_when_there_is_room() -> None:
    """Whoever waits for it sends nothing more that would remind us."""
    with raw_pair() as (fd, end):
        link = Link(fd, JOB_TERMS, lanes=True)
        link.acknowledge()
        assert link.flush()
        end.hello()
        give(end)
        link.fill()
        os.set_blocking(fd, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(fd, bytes(64))
        for _ in range(2):
            end.write(part(4 * LANE_PART_BYTES, LANE_PART_BYTES))
        link.fill()
        assert not link.broken and link.needs_socket and not link.flush()
        while len(end.socket.recv(1 << 16)) != 64:
            pass
        assert link.flush(), "there is room for it now"
        packet = b""
        while frames.HEADER.unpack_from(packet := end.socket.recv(1 << 16))[1:3] != (frames.LANE_KIND, LANE_TAKEN):
            pass
        assert frames.HEADER.unpack(packet)[5] == 2 * LANE_PART_BYTES
        link.close()


def test_a_packet_of_many_bodies_is_copied_no_further_than_the_window() -> None:
    """A packet holds 2,500 such frames, and each may stand for 64 KiB."""
    with raw_pair() as (fd, end):
        link = Link(fd, Terms(), lanes=True)
        link.acknowledge()
        link.flush()
        end.hello()
        give(end)
        end.write(b"".join(laid(at, 65_536, 65_536) for at in range(1, 2_000)))
        while not link.broken and link.fill():
            pass
        assert "more came than the window" in link.broken
        assert sum(message.size for message in link.inbox) <= Terms().window_bytes
        link.close()


# ---- who understands lanes ----


def test_whoever_does_not_speak_of_lanes_hears_of_none() -> None:
    with two() as (a, b), working(functools.partial(a.send, bytes(100_000))):
        assert b.receive(10).sealed is not None
    with raw_pair() as (fd, end), Peer(fd) as peer:
        end.hello()
        peer.send(bytes(BODY))
        assert [frame[:2] for frame in end.read()] == [(frames.DATA, 0)]


def test_an_offer_is_answered_by_one() -> None:
    first, second = make_pair()
    with Peer(first, JOB_TERMS, lanes=True) as a, Peer(second) as b:
        b.send(b"here")
        with working(functools.partial(a.send_many, [bytes(100_000), b"end"])):
            assert b.receive(10).size == 100_000
        assert b._link.outbox.takes_by_lane(100_000)


def test_a_job_speaks_of_lanes_when_its_supervisor_understands_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for said in ("1", ""):
        with raw_pair() as (fd, end):
            monkeypatch.setenv(VARIABLE, str(fd))
            monkeypatch.setenv(LANES_VARIABLE, said)
            with connect():
                assert LANES_VARIABLE not in os.environ
                packet = end.socket.recv(1000)
                assert (frames.decode(packet, 0, len(packet))[0][:2] == (frames.LANE_KIND, LANE_OFFER)) is bool(said)


# ---- hostile peers ----


def broken(write: Callable[[RawEnd], object], lanes: bool = True) -> str:
    """Why a link ends the connection once the other side has written that."""
    with raw_pair() as (fd, end):
        link = Link(fd, Terms(message_max_bytes=2 << 20, lane_max_bytes=2 << 20), lanes=lanes)
        link.acknowledge()
        link.flush()
        end.hello()
        write(end)
        while not link.broken and link.fill():
            pass
        reason = link.broken
        link.close()
        return reason


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda end: give(end, memory(seals=0)), "can change its size"),
        (lambda end: give(end, memory(seals=fcntl.F_SEAL_GROW)), "can change its size"),
        (lambda end: give(end, os.open("/dev/null", os.O_RDWR)), "can change its size"),
        (lambda end: give(end, memory(4096)), f"is not {LANE_BYTES} bytes"),
        (lambda end: give(end, write_only(memory())), "cannot be read"),
        pytest.param(
            lambda end: give(end, memory(flags=os.MFD_HUGETLB)), "has huge pages", marks=pytest.mark.requires("hugetlbfs"), id="huge pages"
        ),
        (lambda end: give(end, size=(4096).to_bytes(8, "little")), f"is not {LANE_BYTES} bytes"),
        (lambda end: [give(end), give(end)], "a second lane"),
        (lambda end: end.write(frames.encode_lane(LANE_TAKEN, 64)), "a lane, which was never made"),
        (lambda end: end.write(laid(1, BODY, BODY)), "there is none"),
        (lambda end: end.write(part(1 << 20, BODY)), "there is none"),
        (lambda end: [give(end), end.write(laid(1, 0, 0))], "a part of 0 bytes"),
        (lambda end: [give(end), end.write(part(2 << 20, LANE_PART_BYTES + 1))], f"a part of {LANE_PART_BYTES + 1} bytes"),
        (lambda end: [give(end), end.write(laid(1, 1 << 62, BODY))], "too large for a lane"),
        (lambda end: [give(end), end.write(part((2 << 20) + 1, BODY))], "too large for a lane"),
        (lambda end: [give(end), end.write(laid(1, 100_000, 99_999))], "not the next part"),
        (lambda end: [give(end), end.write(laid(1, BODY, BODY + 1))], "not the next part"),
        (lambda end: [give(end), end.write(part(100_000, 100_000))], "not the next part"),
        (lambda end: [give(end), end.write(part(100_000, 10) + laid(1, BODY, BODY))], "not the next part"),
        (lambda end: [give(end), end.write(part(100_000, 10) + part(100_001, 10))], "not the next part"),
        (lambda end: [give(end), end.write(laid(2, BODY, BODY) + laid(2, BODY, BODY))], "message 2 came after 2"),
        (lambda end: [give(end), end.write(b"".join(laid(at, 65_536, 65_536) for at in range(1, 18)))], "more came than the window"),
        (lambda end: end.write(frames.encode_lane(LANE_MEMORY, body=SIZE)), "about lanes"),
        (lambda end: end.write(frames.encode_lane(LANE | 16)), "means nothing"),
    ],
)
def test_a_peer_that_breaks_the_rules_of_lanes_is_cut_off_with_the_reason(write: Callable[[RawEnd], object], words: str) -> None:
    reason = broken(write)
    assert re.search(words, reason), reason


def test_whoever_cannot_read_a_job_s_lane_does_not_go_on_without_counting_what_came() -> None:
    """The error was nobody's: messages in front of the body in the lane counted against no window, and any number came."""
    with raw_pair() as (fd, end):
        link = Link(fd)
        end.write(frames.encode_lane(LANE_OFFER, body=frames.SEALED_LENGTH.pack(BODY)))
        link.fill()
        give(end, write_only(memory()))
        end.write(frames.encode(frames.DATA, 0, 1, b"", 0) + laid(2, BODY, BODY))
        while link.fill():
            pass
        assert "cannot be read" in link.broken
        assert not link.inbox
        link.close()


def test_a_lane_can_come_as_the_last_descriptor_that_we_may_have() -> None:
    with raw_pair() as (fd, end):
        link = Link(fd)
        end.write(frames.encode_lane(LANE_OFFER, body=frames.SEALED_LENGTH.pack(BODY)))
        link.fill()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        mine = memory()
        next_free = os.dup(mine)
        os.close(next_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free + 1, limits[1]))
        try:
            end.write(frames.encode_lane(LANE_MEMORY, body=SIZE, descriptors=1), (mine,))
            link.fill()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(mine)
        assert not link.broken
        link.close()


def test_a_lane_that_nobody_asked_for_is_refused() -> None:
    assert "not asked for" in broken(give, lanes=False)


def test_nobody_copies_what_was_not_written_yet() -> None:
    """Else a liar has us write over what it has not read, which is its own loss, but hides a fault."""
    out = LaneOut()
    os.close(out.fd)
    out.put(bytes(BODY))
    with pytest.raises(ConfigError, match="were written"):
        out.taken(out.position + 1)
    out.close()


def test_a_large_answer_does_not_come_by_a_lane() -> None:
    with raw_pair() as (fd, end):
        link = Link(fd, JOB_TERMS, lanes=True)
        number = link.outbox.post(frames.DATA, b"?", frames.REQUEST)
        link.pending[number] = "waits"
        assert link.flush()
        end.hello()
        give(end)
        end.write(part(100_000, 50_000) + laid(number, 100_000, 50_000, frames.REPLY))
        while not link.broken and link.fill():
            pass
        assert "a large answer" in link.broken
        link.close()
