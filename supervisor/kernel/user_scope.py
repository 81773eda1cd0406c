# SPDX-License-Identifier: Apache-2.0
"""A scope of our own from the user's systemd, so that an ordinary user has a delegated cgroup.

``StartTransientUnit`` answers before the unit exists: we wait for ``JobRemoved`` and then look where
we really are, because a scope can fail, or come without its controllers, after a good reply.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

PATIENCE_S: Final = 10.0


class ScopeError(Exception):
    """The user manager could not give us a scope; the text says why."""


def enter_user_scope() -> str:
    """Move this process into a new ``ringfence-run-PID.scope`` with Delegate=yes and return its name.

    Raises :class:`ScopeError`. Needs a running ``systemd --user`` (XDG_RUNTIME_DIR is set).
    """
    if not os.environ.get("DBUS_SESSION_BUS_ADDRESS") and not os.environ.get("XDG_RUNTIME_DIR"):
        raise ScopeError("no systemd user manager: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")
    try:
        from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
        from jeepney.io.blocking import Proxy, open_dbus_connection
        from jeepney.wrappers import unwrap_msg
    except ImportError:
        raise ScopeError("the package jeepney is not installed") from None
    name = f"ringfence-run-{os.getpid()}.scope"
    manager = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
    properties: list[tuple[str, tuple[str, Any]]] = [
        ("Description", ("s", "Ringfence jobs")),
        ("Delegate", ("b", True)),
        ("PIDs", ("au", [os.getpid()])),
        ("CollectMode", ("s", "inactive-or-failed")),
    ]
    try:
        with open_dbus_connection(bus=_bus_address()) as connection:
            rule = MatchRule(type="signal", interface=manager.interface, member="JobRemoved", path=manager.object_path)
            Proxy(message_bus, connection, timeout=PATIENCE_S).AddMatch(rule)
            with connection.filter(rule) as removed:
                call = new_method_call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "fail", properties, []))
                (job,) = unwrap_msg(connection.send_and_get_reply(call, timeout=PATIENCE_S))
                result = _wait_removed(connection, removed, job)
    except Exception as error:  # jeepney raises many kinds; each means: no scope, and says why
        raise ScopeError(f"{type(error).__name__}: {error}") from None
    if result != "done":
        raise ScopeError(f"systemd ended the start of {name} with {result!r}")
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        if name not in file.read():
            raise ScopeError(f"systemd started {name} but did not move this process into it")
    return name


def _bus_address() -> str:
    return os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={os.environ['XDG_RUNTIME_DIR']}/bus"


def _wait_removed(connection: Any, removed: Any, job: str) -> str:
    while True:
        _id, path, _unit, result = connection.recv_until_filtered(removed, timeout=PATIENCE_S).body
        if path == job:
            return str(result)
