# SPDX-License-Identifier: Apache-2.0
"""Checks: ways to find out that a service is ready, or still healthy."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.spec import JobSpec
from supervisor.model.units import INFINITY, parse_duration_ns
from supervisor.model.value import set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

PORT_MAX: Final = 65535
FAILURE_ACTIONS: Final = ("restart", "event")


@value
class FdCheck:
    """Ready when the service writes a byte to the descriptor whose number is in its variable ``READY_FD`` (s6's notification-fd).

    Closing it without a byte is a broken promise: the start has failed (``protocol``).
    """


@value
class TcpCheck:
    """Good when a connection to ``host`` and ``port`` is accepted."""

    port: int
    host: str = "127.0.0.1"

    def _check(self) -> None:
        if problems := _port_problems("tcp", self.host, self.port):
            raise ConfigError(*problems)


@value
class HttpCheck:
    """Good when ``GET url`` is answered with a status from 200 to 299; plain ``http://`` only, redirects are not followed."""

    url: str

    def _check(self) -> None:
        self.parts()

    def parts(self) -> tuple[str, int, str]:
        """Host, port and path with query. Raises :class:`ConfigError`."""
        url: Any = self.url
        if not isinstance(url, str) or not url.startswith("http://"):
            raise ConfigError(f"http: {url!r} must begin with http://; a check of one's own service needs no encryption")
        if any(ord(character) <= 32 or ord(character) > 126 for character in url):
            raise ConfigError(f"http: {url!r} holds a character that must be percent-encoded")
        rest = url.removeprefix("http://")
        authority, slash, path = rest.partition("/")
        if not slash and "?" in authority:
            authority, _, query = authority.partition("?")
            path = f"?{query}"
        if authority.startswith("["):  # an IPv6 address
            host, _, tail = authority[1:].partition("]")
            text = tail.removeprefix(":")
        else:
            host, _, text = authority.partition(":")
        if text and not (text.isascii() and text.isdigit() and len(text) <= 5):
            raise ConfigError(f"http: {text[:20]!r} in {url!r} is not a port")
        port = int(text) if text else 80
        if problems := _port_problems("http", host, port):
            raise ConfigError(*problems)
        return host, port, f"/{path}".partition("#")[0]


@value
class ExecCheck:
    """Good when the command exits 0; it runs as the service does, in its own cgroup, inside the service's limits."""

    argv: Sequence[str | bytes]

    def _check(self) -> None:
        set_field(self, "argv", JobSpec(argv=self.argv).argv)


@value
class LogCheck:
    """Ready when the service prints a line that the regular expression ``pattern`` matches somewhere, on either stream."""

    pattern: str

    def _check(self) -> None:
        import re  # loaded by those who look for a line

        try:
            re.compile(self.pattern.encode() if isinstance(self.pattern, str) else b"(")
        except (re.error, UnicodeEncodeError) as error:
            raise ConfigError(f"log: {self.pattern!r} is not a regular expression: {error}") from None


if TYPE_CHECKING:
    Asking = TcpCheck | HttpCheck | ExecCheck
    Check = FdCheck | LogCheck | Asking

ASKING: Final = (TcpCheck, HttpCheck, ExecCheck)


@value
class Health:
    """How a running service is asked whether it is well, and what is done when it is not.

    Every ``interval_sec`` the ``check`` has ``timeout_sec`` to succeed. ``retries`` failures in a row make the service
    unhealthy, one success makes it healthy; failures within ``start_period_sec`` after it became active do not count.
    ``on_failure``: ``restart`` ends the run (result ``health``), ``event`` only tells. Durations are given in any spelling and
    kept as seconds.
    """

    check: Asking
    interval_sec: Any = 30.0
    timeout_sec: Any = 5.0
    retries: int = 3
    start_period_sec: Any = 0.0
    on_failure: str = "restart"

    def _check(self) -> None:
        problems = []
        check: Any = self.check
        if not isinstance(check, ASKING):
            problems.append("health.check: must be a TcpCheck, an HttpCheck or an ExecCheck")
        for name in ("interval_sec", "timeout_sec", "start_period_sec"):
            problems += take_seconds(self, name, f"health.{name}", finite=True, zero=name == "start_period_sec")
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 1:
            problems.append("health.retries: must be a whole number of at least 1")
        if self.on_failure not in FAILURE_ACTIONS:
            problems.append(f"health.on_failure: {self.on_failure!r} is neither restart nor event")
        if problems:
            raise ConfigError(*problems)


def take_seconds(of: object, name: str, shown: str, *, finite: bool = False, zero: bool = True) -> list[str]:
    """Replace the field by its seconds, whatever spelling it was given in; the problems found."""
    given = getattr(of, name)
    try:
        amount = INFINITY if given == INFINITY else parse_duration_ns(given)
    except ValueError as error:
        return [f"{shown}: {error}"]
    if finite and amount == INFINITY:
        return [f"{shown}: must be finite"]
    if not zero and amount == 0:
        return [f"{shown}: must be more than 0"]
    set_field(of, name, amount / 1e9)
    return []


def _port_problems(what: str, host: object, port: object) -> list[str]:
    problems = []
    if not isinstance(host, str) or not host:
        problems.append(f"{what}: the host is missing")
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= PORT_MAX:
        problems.append(f"{what}: {port!r} is not a port, 1 to {PORT_MAX}")
    return problems
