# SPDX-License-Identifier: Apache-2.0
"""Addresses on an exchange: a member's name, ``*`` for everybody, ``#topic``; empty for the supervisor."""

from __future__ import annotations

from supervisor.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

EVERYBODY: Final = "*"
TOPIC: Final = "#"
NAME_MAX: Final = 64
LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@")


def check_name(name: str) -> str:
    """A member's name; raises :class:`ConfigError`."""
    if not name or len(name) > NAME_MAX or not LETTERS.issuperset(name):
        raise ConfigError(f"name: {name!r} must be 1 to {NAME_MAX} of the letters, digits and ._-@")
    return name


def check_topic(topic: str) -> str:
    """A topic, which is ``#`` and a name; raises :class:`ConfigError`."""
    if not topic.startswith(TOPIC):
        raise ConfigError(f"topic: {topic!r} must begin with {TOPIC}, such as #prices")
    check_name(topic[len(TOPIC) :])
    return topic


def is_many(to: str) -> bool:
    """Everybody or a topic."""
    return to == EVERYBODY or to.startswith(TOPIC)
