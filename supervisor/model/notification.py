# SPDX-License-Identifier: Apache-2.0
"""Notification: one datagram of the sd_notify(3) protocol."""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: systemd's own limit on a datagram (NOTIFY_BUFFER_MAX), and on a status line what a terminal may show.
DATAGRAM_MAX_BYTES: Final = 4096
STATUS_MAX: Final = 512


@value
class Notification:
    """What a service says about itself. Unknown assignments are passed over, as the protocol asks.

    ``status`` and the numbers are ``None`` when not said. ``extend_timeout_us`` and ``watchdog_us`` are microseconds.
    ``barrier``: the sender waits until its descriptor is closed. ``refused``: assignments we do not follow, by name.
    """

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    watchdog: bool = False
    watchdog_trigger: bool = False
    barrier: bool = False
    status: str | None = None
    extend_timeout_us: int | None = None
    watchdog_us: int | None = None
    refused: tuple[str, ...] = ()


#: MAINPID: a job is its first process, whose end is the job's end. FDSTORE: nothing is kept for a service.
REFUSED: Final = ("MAINPID", "MAINPIDFDID", "MAINPIDFD", "FDSTORE", "FDSTOREREMOVE", "NOTIFYACCESS")


def parse_notification(raw: bytes) -> Notification:
    """The datagram as a value; total: whatever a job sends, the worst is an empty notification."""
    said: dict[str, str] = {}
    for line in raw[:DATAGRAM_MAX_BYTES].split(b"\n"):
        name, equals, text = line.partition(b"=")
        if equals:
            said[name.decode("ascii", "replace")] = text.decode("utf-8", "replace")
    status = said.get("STATUS")
    return Notification(
        ready=said.get("READY") == "1",
        reloading=said.get("RELOADING") == "1",
        stopping=said.get("STOPPING") == "1",
        watchdog=said.get("WATCHDOG") == "1",
        watchdog_trigger=said.get("WATCHDOG") == "trigger",
        barrier=said.get("BARRIER") == "1",
        status=None if status is None else _printable(status),
        extend_timeout_us=_number(said.get("EXTEND_TIMEOUT_USEC")),
        watchdog_us=_number(said.get("WATCHDOG_USEC")),
        refused=tuple([name for name in REFUSED if name in said]),
    )


def _printable(text: str) -> str:
    """A line fit for a terminal and a log: control characters are dropped."""
    return "".join([character for character in text[:STATUS_MAX] if character.isprintable()])


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 19:
        return None
    number = int(text)
    return number if 0 < number < 1 << 63 else None
