# SPDX-License-Identifier: Apache-2.0
"""Targets that are short texts from outside: grants, notifications, the kernel's files, what goes into a meta file."""

from __future__ import annotations

import os
import socket

from supervisor.errors import ConfigError


def grants(raw: bytes) -> str:
    """The variable that tells a job of its shared memory; what is taken reads back, and its descriptors can be any."""
    from supervisor.model.grant import format_grants, parse_grants

    try:
        found = parse_grants(raw.decode("utf-8", "surrogateescape"))
    except ConfigError as error:  # its words repeat the input
        return " ".join(word for word in ("mode", "size", "descriptors", "twice", "letters", "fd,fd") if word in str(error))
    assert parse_grants(format_grants(found.values())) == found
    for grant in found.values():
        for fd in grant.fds:
            if fd > 1000:  # none of ours
                try:
                    os.set_inheritable(fd, False)
                except OSError:
                    continue
    return " ".join(f"{grant.kind} {grant.mode}" for grant in found.values())


def notification(raw: bytes) -> str:
    """A datagram through the socket, with a descriptor: as it was sent, up to the protocol's length, and fit to be shown."""
    from supervisor.kernel.notify_socket import NotifySocket
    from supervisor.model.notification import DATAGRAM_MAX_BYTES, STATUS_MAX, parse_notification

    listening = NotifySocket()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + listening.address[1:])
            socket.send_fds(sender, [raw], [sender.fileno()] * (len(raw) % 3))
        received = listening.receive()
    finally:
        listening.close()
    assert received is not None
    datagram, fds = received
    for fd in fds:
        os.close(fd)
    assert datagram.raw == raw[:DATAGRAM_MAX_BYTES] and datagram.pid == os.getpid() and len(fds) == len(raw) % 3
    said = parse_notification(datagram.raw)
    assert said.status is None or (said.status.isprintable() and len(said.status) <= STATUS_MAX)
    for number in (said.extend_timeout_us, said.watchdog_us):
        assert number is None or 0 < number < 1 << 63
    return f"{said.ready} {said.reloading} {said.stopping} {said.watchdog} {said.barrier} {said.refused} {said.status is None}"


def cpu_list(raw: bytes) -> None:
    """A list of processors, and what it is printed as."""
    from supervisor.model.cpulist import format_cpu_list, parse_cpu_list

    found = parse_cpu_list(raw.decode("utf-8", "surrogateescape"))
    assert found and parse_cpu_list(format_cpu_list(found)) == found


def statistics(raw: bytes) -> str:
    """The files of a cgroup: numbers, whatever stands there."""
    from supervisor.model.stats import parse_flat_keyed, parse_io_stat, parse_pressure, parse_single

    text = raw.decode("utf-8", "surrogateescape")
    keyed, single = parse_flat_keyed(text), parse_single(text)
    assert all(number >= 0 for number in (*keyed.values(), *parse_io_stat(text), *parse_pressure(text).values(), single or 0))
    return f"{len(keyed)} {single is None} {len(parse_pressure(text))}"


def meta(raw: bytes) -> str:
    """What went wrong, in the words of whoever it was, as isolate's meta file: two lines that read back."""
    from supervisor.model.isolate_result import broken_result

    result = broken_result(raw.decode("utf-8", "surrogateescape"))
    status, message, nothing = result.meta.split("\n")
    assert (status, nothing) == ("status:XX", "") and message.startswith("message:")
    assert len(result.meta.splitlines()) == 2 and "\n" not in result.line
    return "said"
