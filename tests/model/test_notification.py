# SPDX-License-Identifier: Apache-2.0
"""Datagrams of sd_notify(3), honest and not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import relaxed

from supervisor.model.notification import DATAGRAM_MAX_BYTES, REFUSED, STATUS_MAX, Notification, parse_notification

SAID = [
    (b"READY=1", Notification(ready=True)),
    (b"READY=1\nSTATUS=Processing requests...\n", Notification(ready=True, status="Processing requests...")),
    (b"RELOADING=1\nMONOTONIC_USEC=12", Notification(reloading=True)),
    (b"STOPPING=1", Notification(stopping=True)),
    (b"WATCHDOG=1", Notification(watchdog=True)),
    (b"WATCHDOG=trigger", Notification(watchdog_trigger=True)),
    (b"WATCHDOG_USEC=20000000", Notification(watchdog_us=20_000_000)),
    (b"EXTEND_TIMEOUT_USEC=500", Notification(extend_timeout_us=500)),
    (b"BARRIER=1", Notification(barrier=True)),
    (b"MAINPID=4711\nFDSTORE=1", Notification(refused=("MAINPID", "FDSTORE"))),
    (b"X_FOO=1\nREADY=0\nrubbish", Notification()),
    (b"EXTEND_TIMEOUT_USEC=-5\nWATCHDOG_USEC=99999999999999999999", Notification()),
    (b"STATUS=\x1b[31mred\x07", Notification(status="[31mred")),
    (b"", Notification()),
]


@pytest.mark.parametrize(("raw", "said"), SAID, ids=lambda item: repr(item)[:30] if isinstance(item, bytes) else "")
def test_what_the_protocol_says(raw: bytes, said: Notification) -> None:
    assert parse_notification(raw) == said


@given(
    st.binary(max_size=2 * DATAGRAM_MAX_BYTES)
    | st.lists(st.sampled_from([raw for raw, _ in SAID] + [b"\n", b"=", b"READY"]), max_size=20).map(b"\n".join)
)
@relaxed
def test_any_bytes_are_a_notification_and_its_status_is_fit_for_a_terminal(raw: bytes) -> None:
    said = parse_notification(raw)
    assert said.status is None or (said.status.isprintable() and len(said.status) <= STATUS_MAX)
    assert set(said.refused) <= set(REFUSED)
    for number in (said.extend_timeout_us, said.watchdog_us):
        assert number is None or 0 < number < 1 << 63
