# SPDX-License-Identifier: Apache-2.0
"""The wire format: what is written is read back; whatever else arrives is refused with a reason, never with a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import ConfigError
from supervisor.model import frames
from supervisor.model.frames import (
    ACK,
    CONTROL,
    DATA,
    ERROR,
    HEADER,
    MEANINGFUL,
    REPLY,
    REQUEST,
    RESENT,
    SEALED,
    STATUS,
    Terms,
    decode,
    decode_ack,
    decode_error,
    encode,
    encode_ack,
    encode_error,
)

numbers = st.integers(1, (1 << 64) - 1)
addresses = st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")[:255].decode("utf-8", "ignore"))
plain_flags = st.sampled_from([0, REQUEST, REPLY, RESENT, ERROR, REPLY | ERROR])
messages = st.tuples(st.sampled_from([DATA, CONTROL, STATUS]), plain_flags, numbers, addresses, st.binary(max_size=200), st.just(0))
terms = st.builds(
    Terms,
    window_messages=st.integers(1, frames.WINDOW_MESSAGES_MAX),
    window_bytes=st.integers(frames.PACKET_MAX_BYTES, frames.WINDOW_BYTES_MAX),
    message_max_bytes=st.integers(frames.INLINE_MAX_BYTES, frames.MESSAGE_MAX_BYTES),
    lane_max_bytes=st.just(Terms().lane_max_bytes),  # an acknowledgement says nothing of it
)


def written(kind: int, flags: int, number: int, address: str, body: bytes, descriptors: int = 0) -> bytes:
    return encode(kind, flags, number, address.encode(), len(body), descriptors) + body


@given(st.lists(messages, max_size=20), st.binary(max_size=10))
def test_what_is_written_is_read_back_in_order(sent: list[frames.Frame], before: bytes) -> None:
    packet = before + b"".join(written(*frame) for frame in sent)
    assert decode(packet, len(before), len(packet)) == sent


@given(st.sampled_from([DATA, CONTROL, STATUS]), st.sampled_from([0, REQUEST, REPLY, RESENT]), numbers, addresses, numbers, numbers)
def test_a_body_in_a_lane_is_announced_in_the_place_of_the_body(
    kind: int, flags: int, number: int, address: str, size: int, part: int
) -> None:
    packet = frames.laid(encode(kind, flags, number, address.encode(), 50_000), size, part)
    assert decode(packet, 0, len(packet)) == [(kind, flags | frames.LANE, number, address, frames.LANE_PLACE.pack(size, part), 0)]


@given(st.sampled_from([frames.LANE_OFFER, frames.LANE_PART, frames.LANE_TAKEN, frames.LANE_MEMORY]), numbers, st.binary(max_size=20))
def test_a_frame_about_lanes_has_its_length_and_nothing_else(flags: int, number: int, body: bytes) -> None:
    lengths = {frames.LANE_OFFER: 8, frames.LANE_PART: 16, frames.LANE_TAKEN: 0, frames.LANE_MEMORY: 8}
    said = number if flags == frames.LANE_TAKEN else 0
    descriptors = int(flags == frames.LANE_MEMORY)
    packet = frames.encode_lane(flags, said, body, descriptors)
    if len(body) == lengths[flags]:
        assert decode(packet, 0, len(packet)) == [(frames.LANE_KIND, flags, said, "", body, descriptors)]
    else:
        with pytest.raises(ConfigError, match="about lanes"):
            decode(packet, 0, len(packet))
    wrong = frames.encode_lane(flags, number, bytes(lengths[flags]), descriptors + 1)
    with pytest.raises(ConfigError, match="about lanes"):
        decode(wrong, 0, len(wrong))


@given(st.integers(0, frames.MESSAGE_MAX_BYTES), st.integers(frames.PACKET_MAX_BYTES, frames.WINDOW_BYTES_MAX))
def test_two_bodies_of_any_size_fit_a_window_unless_it_takes_but_one_of_the_largest_inline(size: int, window: int) -> None:
    charge = frames.charge_of(size, window)
    assert charge <= min(size, max(frames.INLINE_MAX_BYTES, window // 2))
    assert charge == size or size > frames.INLINE_MAX_BYTES
    if window >= 4 * frames.INLINE_MAX_BYTES:
        assert 2 * (charge + frames.HEADER_BYTES + frames.ADDRESS_MAX_BYTES) <= window


@given(numbers | st.just(0), terms)
def test_an_acknowledgement_carries_a_number_and_terms(number: int, stated: Terms) -> None:
    packet = encode_ack(number, stated)
    ((kind, flags, read, address, body, descriptors),) = decode(packet, 0, len(packet))
    assert (kind, flags, read, address, descriptors) == (ACK, 0, number, "", 0)
    assert decode_ack(body) == stated


@given(st.binary(min_size=16, max_size=16))
def test_terms_that_no_channel_can_work_with_become_possible_ones(body: bytes) -> None:
    decode_ack(body)  # its own check raises otherwise


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_one_error(packet: bytes) -> None:
    """And what is read stands there: written again it is the same bytes."""
    try:
        found = decode(packet, 0, len(packet))
    except ConfigError as error:
        assert len(error.problems) == 1
        return
    assert b"".join(written(*frame) for frame in found) == packet


@given(st.lists(messages, min_size=1, max_size=5), st.data())
def test_a_damaged_packet_is_frames_or_one_error(sent: list[frames.Frame], data: st.DataObject) -> None:
    packet = bytearray(b"".join(written(*frame) for frame in sent))
    for _ in range(data.draw(st.integers(1, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(packet)))
    try:
        found = decode(bytes(packet), 0, end)
    except ConfigError:
        return
    assert b"".join(written(*frame) for frame in found) == packet[:end]


@given(st.integers(0, 255), st.integers(0, 255))
def test_only_pairs_of_kind_and_flags_that_mean_something_are_read(kind: int, flags: int) -> None:
    sealed = bool(flags & SEALED)
    body = bytes(16 if kind == ACK else 8)
    packet = encode(kind, flags, 1, b"", len(body), 1 if sealed else 0) + body
    if kind << 8 | flags in MEANINGFUL:
        assert len(decode(packet, 0, len(packet))) == 1
    else:
        with pytest.raises(ConfigError, match="means nothing"):
            decode(packet, 0, len(packet))


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"x" * 15, "too short for a header"),
        (HEADER.pack(15, DATA, 0, 0, 0, 1), "does not fit"),
        (HEADER.pack(17, DATA, 0, 0, 0, 1), "does not fit"),
        (HEADER.pack(0xFFFFFFFF, DATA, 0, 0, 0, 1), "does not fit"),
        (HEADER.pack(16, DATA, 0, 1, 0, 1), "does not fit"),
        (HEADER.pack(16, DATA, 0, 0, 0, 0), "number 0"),
        (HEADER.pack(17, DATA, 0, 1, 0, 1) + b"\xff", "not UTF-8"),
        (HEADER.pack(16, ACK, 0, 0, 0, 1), "acknowledgement"),
        (HEADER.pack(24, DATA, SEALED, 0, 0, 1) + bytes(8), "sealed body"),
        (HEADER.pack(23, DATA, SEALED, 0, 1, 1) + bytes(7), "sealed body"),
        (HEADER.pack(16, DATA, 0, 0, 17, 1), "17 descriptors"),
        (HEADER.pack(16, DATA, ERROR, 0, 1, 1), "an error is .* without descriptors"),
        (HEADER.pack(16 + 1026, DATA, REPLY | ERROR, 0, 0, 1) + bytes(1026), "an error is a byte and a text of at most 1024 bytes"),
        (HEADER.pack(16 + 65537, DATA, 0, 0, 0, 1) + bytes(65537), "must travel in sealed memory"),
    ],
)
def test_each_broken_rule_is_named(packet: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decode(packet, 0, len(packet))


@given(st.sampled_from(sorted(frames.ERROR_NAMES)), st.text(max_size=100))
def test_an_error_carries_a_code_and_a_text(code: int, text: str) -> None:
    name, said = decode_error(encode_error(code, text))
    assert name == frames.ERROR_NAMES[code]
    assert said == text.encode("utf-8", "replace").decode()


@given(st.binary(max_size=2000))
def test_any_bytes_are_an_error_of_some_kind(body: bytes) -> None:
    name, said = decode_error(body)
    assert name in frames.ERROR_CODES
    assert len(said) <= frames.ERROR_TEXT_MAX_BYTES


def test_terms_name_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Terms(window_messages=0, window_bytes=1, message_max_bytes=True)
    assert len(caught.value.problems) == 3
