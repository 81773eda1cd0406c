# SPDX-License-Identifier: Apache-2.0
"""Names of users and groups to numbers, as login programs resolve them."""

from __future__ import annotations

import os

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.spec import Credentials


def resolve(user: str | int | None, group: str | int | None, extra_groups: tuple[str | int, ...] | None = None) -> Credentials:
    """The credentials of a job that runs as ``user`` (name or uid), its groups from the account unless given.

    Raises :class:`ConfigError` for an unknown name and :class:`UnsupportedError` when this process
    may not become that user.
    """
    if user is None and group is None and extra_groups is None:
        return Credentials()
    import pwd

    uid: int | None = None
    gid: int | None = None
    name: str | None = None
    if user is not None:
        try:
            account = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            uid, gid, name = account.pw_uid, account.pw_gid, account.pw_name
        except KeyError:
            if not (isinstance(user, int) or user.isdecimal()):
                raise ConfigError(f"user: there is no user {user!r}") from None
            uid = int(user)
    if group is not None:
        gid = _gid(group)
    groups = tuple(_gid(item) for item in extra_groups) if extra_groups is not None else None
    if groups is None and uid is not None and uid != os.geteuid():
        groups = tuple(os.getgrouplist(name, gid or 0)) if name is not None else ()
    made = Credentials(uid=uid, gid=gid, groups=groups)
    _require_power(made)
    return made


def _gid(group: str | int) -> int:
    import grp

    if isinstance(group, int) or group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"group: there is no group {group!r}") from None


def _require_power(who: Credentials) -> None:
    if os.geteuid() == 0:
        return
    if (who.uid not in (None, os.geteuid())) or (who.gid not in (None, os.getegid())) or who.groups is not None:
        raise UnsupportedError("user", "becoming another user or group needs root")


def home_environment(user: str | int) -> dict[str, str]:
    """HOME, USER, LOGNAME and SHELL of the account, as systemd sets them for User=."""
    import pwd

    try:
        account = pwd.getpwuid(int(user)) if isinstance(user, int) or user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": account.pw_shell or "/bin/sh"}
