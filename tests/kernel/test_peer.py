# SPDX-License-Identifier: Apache-2.0
"""The blocking end of a channel, two of them in one process, with a thread where both must move."""

from __future__ import annotations

import functools
import itertools
import os
import re
import socket
from collections.abc import Callable

import pytest
from peers import RawEnd, raw_pair, two, working

from supervisor import BrokenError, ClosedError, ConfigError, Message, Peer, ReplyError, Sealed, Terms, TimedOutError
from supervisor.kernel.link import Link
from supervisor.kernel.packet_socket import make_pair
from supervisor.kernel.peer import VARIABLE, connect
from supervisor.model import frames


@pytest.mark.parametrize("size", [0, 1, 2047, 2049, 65536, 65537, 3 << 20])
def test_a_body_of_any_size_arrives_as_it_was(size: int) -> None:
    body = os.urandom(size)
    with two() as (a, b):
        for given in (body, bytearray(body), memoryview(body)):
            with working(functools.partial(a.send, given)):
                message = b.receive(10)
            assert bytes(message.body) == body
            assert (message.sealed is None) is (size <= frames.INLINE_MAX_BYTES)
            assert message.size == size


def test_what_is_changed_after_sending_was_sent_as_it_was() -> None:
    body = bytearray(b"before")
    with two() as (a, b):
        a.send(body)
        body[:] = b"after!"
        assert b.receive(10).body == b"before"


def test_order_is_kept_across_kinds_and_sizes() -> None:
    with two() as (a, b):
        sizes = [10, 70000, 5, 30000, 0, 65537, 65536] * 5

        def send() -> None:
            for number, size in enumerate(sizes):
                a.send(bytes([number]) * size, kind=("data", "control", "status")[number % 3])

        with working(send):
            for number, size in enumerate(sizes):
                message = b.receive(10)
                assert (message.number, message.kind, message.size) == (number + 1, ("data", "control", "status")[number % 3], size)
                assert bytes(message.body) == bytes([number]) * size


def test_objects_travel_as_messagepack_and_as_pickle_only_when_named() -> None:
    from supervisor import PICKLE

    item = {"a": [1, 2.5, None, True, b"raw"], "b": "gr\u00fcn"}
    with two() as (a, b):
        a.send_object(item)
        assert b.receive(10).object() == item
        a.send_object({1, 2}, codec=PICKLE)
        message = b.receive(10)
        with pytest.raises(ValueError):
            message.object()
        assert message.object(PICKLE) == {1, 2}
        a.send(b"\x91" * 10_000 + b"\xc0")
        with pytest.raises(ValueError, match="nested too deep"):
            b.receive(10).object()


def test_a_request_is_answered_or_refused() -> None:
    with two() as (a, b):

        def answer() -> None:
            message = b.receive(10)
            b.reply(message, bytes(message.body) + b"!")
            b.refuse(b.receive(10), "not today")

        with working(answer):
            assert a.request(b"hello", timeout=10).body == b"hello!"
            with pytest.raises(ReplyError, match="failed: not today") as caught:
                a.request(b"please", timeout=10)
            assert (caught.value.code, caught.value.reason) == ("failed", "not today")


def test_messages_that_come_during_a_request_wait_their_turn() -> None:
    with two() as (a, b):

        def answer() -> None:
            message = b.receive(10)
            b.send(b"first")
            b.send(b"second")
            b.reply(message, b"answer")

        with working(answer):
            assert a.request(b"?", timeout=10).body == b"answer"
        assert [a.receive(10).body, a.receive(10).body] == [b"first", b"second"]


def test_a_late_answer_is_dropped() -> None:
    with two() as (a, b):
        with pytest.raises(TimedOutError):
            a.request(b"slow", timeout=0.01)
        late = b.receive(10)
        b.reply(late, b"too late")
        with working(lambda: b.reply(b.receive(10), b"in time")):
            assert a.request(b"quick", timeout=10).body == b"in time"
        with pytest.raises(TimedOutError):
            a.receive(0.01)


def test_an_answer_that_a_signal_came_with_is_not_the_next_request_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler raises when the answer was read and before it was taken."""
    with two() as (a, b):
        wait = a._wait

        def interrupted(due_ns: int | None, what: str) -> None:
            wait(due_ns, what)
            if a._link.answered:
                monkeypatch.undo()
                raise KeyboardInterrupt

        monkeypatch.setattr(a, "_wait", interrupted)

        def echo() -> None:
            for _ in range(2):
                message = b.receive(10)
                b.reply(message, message.body)

        with working(echo):
            with pytest.raises(KeyboardInterrupt):
                a.request(b"first", timeout=10)
            assert a.request(b"second", timeout=10).body == b"second"


def test_a_forked_process_closes_its_copy_and_not_the_connection() -> None:
    """As one does that leaves ``with supervisor.connect() as peer`` by sys.exit."""
    with two() as (a, b):
        pid = os.fork()
        if pid == 0:
            try:
                a.close()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        a.send(b"to")
        b.send(b"fro")
        assert (b.receive(10).body, a.receive(10).body) == (b"to", b"fro")


def test_serve_answers_until_the_other_side_closes() -> None:
    first, second = make_pair()

    def answer(message: Message) -> bytes:
        if message.body == b"bad":
            raise ValueError("no")
        return bytes(message.body).upper()

    def serve() -> None:
        with Peer(second) as b:
            b.serve(answer)

    with working(serve), Peer(first) as a:
        assert a.request(b"abc", timeout=10).body == b"ABC"
        with pytest.raises(ReplyError, match="ValueError: no"):
            a.request(b"bad", timeout=10)
        a.send(b"wants no answer")


def test_only_a_request_can_be_answered() -> None:
    with two() as (a, b):
        a.send(b"x")
        message = b.receive(10)
        with pytest.raises(ConfigError, match="wants no answer"):
            b.reply(message, b"y")


def test_descriptors_travel_and_belong_to_the_message() -> None:
    reading, writing = os.pipe()
    with two() as (a, b):
        a.send(b"take this", descriptors=[writing])
        os.close(writing)
        message = b.receive(10)
        (given,) = message.descriptors
        assert not os.get_inheritable(given.fileno())
        os.write(given.fileno(), b"through")
        del message, given
    assert os.read(reading, 100) == b"through"
    assert os.read(reading, 100) == b"", "closed with the message"
    os.close(reading)


def test_a_large_body_and_descriptors_go_together() -> None:
    reading, writing = os.pipe()
    with two() as (a, b):
        with working(lambda: a.send(bytes(100_000), descriptors=[reading, writing])):
            message = b.receive(10)
        assert message.size == 100_000
        os.write(message.descriptors[1].fileno(), b"x")
        assert os.read(message.descriptors[0].fileno(), 1) == b"x"
    os.close(reading)
    os.close(writing)


def test_sealed_memory_is_sent_as_often_as_one_likes_without_a_copy() -> None:
    with Sealed(os.urandom(1 << 20)) as sealed, two() as (a, b):
        a.send(b"short first, so that the other side's terms are known")
        b.receive(10)
        with working(lambda: a.send_many([sealed] * 10)):
            seen = {b.receive(10).body.obj.__class__ for _ in range(10)}  # type: ignore[union-attr]
        assert len(seen) == 1


def test_a_sender_waits_when_the_other_side_takes_nothing() -> None:
    """By messages, by bytes, and by descriptors; every wait ends with room."""
    with two(theirs=Terms(window_messages=4)) as (a, b):
        a._link.fill()
        for _ in range(4):
            a.send(b"x", timeout=0)
        with pytest.raises(TimedOutError, match="takes no more"):
            a.send(b"x", timeout=0.01)
        b.receive(10)
        b.receive(10)  # asking for the second settles the first
        a.send(b"y", timeout=10)
    with two(theirs=Terms(window_bytes=frames.PACKET_MAX_BYTES)) as (a, b):
        a._link.fill()
        a.send(bytes(60_000), timeout=0)
        with pytest.raises(TimedOutError):
            a.send(bytes(60_000), timeout=0.01)
    with two() as (a, b):
        a._link.fill()
        for _ in range(4):
            a.send(b"x", descriptors=[0] * 15, timeout=0)
        with pytest.raises(TimedOutError):
            a.send(b"x", descriptors=[0] * 15, timeout=0.01)
        a.send(b"without is possible", timeout=0)


def test_a_sender_gives_up_in_time_when_the_socket_is_full() -> None:
    """And what timed out was not sent, no part of it."""
    with two(theirs=frames.JOB_TERMS) as (a, b):
        with socket.socket(fileno=os.dup(a.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        a._link.fill()
        sent = 0

        def send_all() -> None:
            nonlocal sent
            with pytest.raises(TimedOutError, match="takes no more"):
                for _ in range(200):
                    a.send(bytes([sent]) * 10_000, timeout=0.01)
                    sent += 1

        with working(send_all):
            pass
        assert 0 < sent < 200
        for at in range(sent):
            assert b.receive(10).body == bytes([at]) * 10_000
        a.send(b"next", timeout=10)
        assert b.receive(10).body == b"next"


def test_too_much_at_once_is_the_caller_s_error() -> None:
    with two(theirs=Terms(message_max_bytes=100_000)) as (a, b):
        with pytest.raises(ConfigError, match="100001 bytes are more than the 100000"):
            a.send(bytes(100_001), timeout=10)
        with pytest.raises(ConfigError, match="16 are more than 15"):
            a.send(b"", descriptors=[0] * 16)
        with pytest.raises(ConfigError, match="none of data, control, status"):
            a.send(b"", kind="gossip")
        with pytest.raises(ConfigError, match="longer than 255"):
            a.send(b"", to="x" * 256)
        a.send(b"all is well")
        assert b.receive(10).body == b"all is well"


def test_the_end_of_the_other_side_comes_after_what_it_sent() -> None:
    with two() as (a, b):
        b.send(b"unread at the other side")  # makes the kernel report ECONNRESET once
        a.send(b"one")
        a.send(b"two")
        a.close()
        assert [message.body for message in b] == [b"one", b"two"]
        with pytest.raises(BrokenError, match="closed its end"):
            b.receive()
        with pytest.raises(BrokenError):
            b.send(b"x")
        with pytest.raises(BrokenError):
            b.request(b"x")
        with pytest.raises(ClosedError):
            a.receive()
        with pytest.raises(ClosedError):
            a.send(b"x")


def test_a_request_ends_at_once_when_the_other_side_dies() -> None:
    with two() as (a, b):

        def die() -> None:
            b.receive(10)
            b.close()

        with working(die), pytest.raises(BrokenError):
            a.request(b"?")


def test_connect_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="not started with a channel"):
        connect()
    for no_descriptor in ("x", "2147483648", "9" * 5000):
        monkeypatch.setenv(VARIABLE, no_descriptor)
        with pytest.raises(ConfigError, match=f"'{no_descriptor}' is not a descriptor"):
            connect()
    reading, writing = os.pipe()
    monkeypatch.setenv(VARIABLE, str(reading))
    with pytest.raises(ConfigError, match="is not a channel"):
        connect()
    os.close(reading)
    os.close(writing)
    monkeypatch.setenv(VARIABLE, "987654")
    with pytest.raises(ConfigError, match="is not a channel"):
        connect()


# rules broken


def broken(write: Callable[[RawEnd], object], terms: Terms = Terms()) -> str:
    """Why a peer gave up after ``write`` at the other end."""
    with raw_pair() as (fd, end), Peer(fd, terms) as peer:
        write(end)
        try:
            while True:
                peer.receive(10)
        except BrokenError as error:
            return error.reason


def sealed_fd(body: bytes) -> int:
    return Sealed(body).detach()


def send_fds(end: RawEnd, packet: bytes, *fds: int) -> None:
    end.write(packet, fds)
    for fd in fds:
        if fd > 2:
            os.close(fd)


DATA, ACK = frames.DATA, frames.ACK
SEALED_HEAD = frames.encode(DATA, frames.SEALED, 1, b"", 8, 1)


def test_frames_of_every_sort_come_in_their_order_whatever_stands_beside_them_in_a_packet() -> None:
    """Plain messages are read by a quicker way, up to the first that is none."""
    sorts = [(DATA, 0, b"", b"x" * 70), (frames.STATUS, 0, b"", b""), (DATA, 0, b"name", b"y"), (DATA, frames.RESENT, b"", b"z" * 9)]
    for chosen in itertools.product(sorts, repeat=3):
        with raw_pair() as (fd, end), Peer(fd) as peer:
            pieces = [frames.encode(kind, flags, n, to, len(body)) + body for n, (kind, flags, to, body) in enumerate(chosen, 1)]
            end.write(frames.encode_ack(0, Terms()) + b"".join(pieces))
            end.write(b"".join([frames.encode(DATA, 0, 4, b"", 4) + b"last", frames.encode_ack(0, Terms())]))
            came = [peer.receive(10) for _ in range(4)]
            assert [(m.kind_number, m.flags, m.sender.encode(), m.body) for m in came] == [*chosen, (DATA, 0, b"", b"last")]
            assert [m.number for m in came] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda end: end.write(b"half a fra"), "too short for a header"),
        (lambda end: end.write(frames.encode(DATA, 0, 1, b"", 100)), "does not fit"),
        (lambda end: end.write(bytes(frames.PACKET_MAX_BYTES + 1)), "too big"),
        (lambda end: end.write(frames.encode(DATA, 0, 1, b"", 0) + b"half a fra"), "too short for a header"),
        (lambda end: end.write(frames.encode(DATA, 0, 1, b"", 0) + frames.encode(DATA, 0, 2, b"", 9)), "does not fit"),
        (lambda end: end.write(frames.encode(DATA, 0, 1, b"", 0) * 2), "message 1 came after 1"),
        (lambda end: end.write(frames.encode(DATA, 0, 0, b"", 0)), "number 0"),
        (lambda end: (end.message(1), end.message(1)), "message 1 came after 1"),
        (lambda end: (end.message(2), end.message(1)), "message 1 came after 2"),
        (lambda end: end.message(1, flags=frames.REPLY), "message 1, which was never sent"),
        (lambda end: end.message(7, frames.encode_error(1, ""), flags=frames.ERROR), "message 7, which was never sent"),
        (lambda end: end.write(frames.encode_ack(9, Terms())), "message 9, which was never sent"),
        (lambda end: end.write(frames.encode(DATA, 0, 1, b"", 0, 2)), "no descriptors came and 2 were announced"),
        (lambda end: send_fds(end, frames.encode(DATA, 0, 1, b"", 0), 0), "1 descriptors came and 0 were announced"),
        (lambda end: send_fds(end, frames.encode(DATA, 0, 1, b"", 0, 1) * 2, 0), "1 descriptors came and 1 were announced|came after"),
        (lambda end: send_fds(end, frames.encode(DATA, 0, 1, b"", 0, 16), *[0] * 100), "100 descriptors came and 16 were announced"),
        (lambda end: send_fds(end, SEALED_HEAD + (10).to_bytes(8, "little"), os.memfd_create("x")), "not sealed"),
        (lambda end: send_fds(end, SEALED_HEAD + (11).to_bytes(8, "little"), sealed_fd(bytes(10))), "another size"),
        (lambda end: send_fds(end, SEALED_HEAD + (100_001).to_bytes(8, "little"), sealed_fd(bytes(100_001))), "larger than 100000"),
        (lambda end: [end.message(number) for number in range(1, 18)], "more came than the window allows"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_cut_off_with_the_reason(write: Callable[[RawEnd], object], words: str) -> None:
    reason = broken(write, Terms(window_messages=8, message_max_bytes=100_000))
    assert re.search(words, reason), reason


@pytest.mark.parametrize("answer", [False, True])
def test_nobody_acknowledges_what_was_not_written_yet(answer: bool) -> None:
    """Else a liar frees room without reading, so that our memory grows, and has descriptors closed that are sent by number later."""
    with raw_pair() as (ours, end):
        link = Link(ours)
        end.hello(Terms(window_messages=frames.WINDOW_MESSAGES_MAX, window_bytes=frames.WINDOW_BYTES_MAX))
        link.fill()
        while link.flush():
            link.outbox.post(DATA, bytes(frames.INLINE_MAX_BYTES))
        read_end, write_end = os.pipe()
        number = link.outbox.post(DATA, b"take this", descriptors=(read_end,))
        assert not link.flush()
        end.message(number, flags=frames.REPLY) if answer else end.write(frames.encode_ack(number, Terms()))
        link.fill()
        assert f"message {number}, which was never sent" in link.broken
        assert os.fstat(read_end), "still open: it belongs to the message"
        link.close()
        with pytest.raises(BrokenPipeError):
            os.write(write_end, b"x")
        os.close(write_end)


@pytest.mark.parametrize(("before", "packet"), [(b"half a fra", frames.encode(DATA, 0, 1, b"", 0, 1)), (b"", b"")])
def test_descriptors_that_come_with_what_breaks_the_rules_are_closed(before: bytes, packet: bytes) -> None:
    """Behind it, or with an empty packet. Else whoever may connect again and again takes all that we can have."""
    with raw_pair() as (ours, end):
        link = Link(ours)
        read_end, write_end = os.pipe()
        if before:
            end.write(before)
        end.write(packet, (read_end,))
        os.close(read_end)
        link.fill()
        assert link.broken
        with pytest.raises(BrokenPipeError):
            os.write(write_end, b"x")
        os.close(write_end)
        link.close()


def test_errors_need_no_room_in_the_window() -> None:
    with raw_pair() as (fd, end), Peer(fd, Terms(window_messages=16)) as peer:
        peer.send(b"to nobody")
        end.message(1, frames.encode_error(frames.GONE, "nobody"), flags=frames.ERROR)
        for number in range(1, 17):
            end.message(number)
        found = [peer.receive(10) for _ in range(17)]
        assert found[0].error == ("gone", "nobody")
        assert [message.number for message in found[1:]] == list(range(1, 17))
        peer.send(b"and we still talk")


def test_who_has_not_heard_our_terms_may_send_what_everybody_takes() -> None:
    with raw_pair() as (fd, end), Peer(fd, Terms(window_messages=1)) as peer:
        for number in range(1, frames.FIRST_MESSAGES + 1):
            end.message(number)
        assert [peer.receive(10).number for _ in range(frames.FIRST_MESSAGES)] == list(range(1, frames.FIRST_MESSAGES + 1))
        peer.send(b"and we still talk")


def test_what_holds_the_sender_s_memory_or_descriptors_is_acknowledged_at_once() -> None:
    """Else a sender of large bodies, which may have few on their way, waits for the late acknowledgement each time."""
    with two() as (a, b):
        a.send(b"small")
        b.receive(10)
        assert not b._link.settle()
        a.send(b"with a descriptor", descriptors=[0])
        b.receive(10)
        assert b._link.settle()
    with two() as (a, b), working(functools.partial(a.send, bytes(100_000))):
        b.receive(10)
        assert b._link.settle()
