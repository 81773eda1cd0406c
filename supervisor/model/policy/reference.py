# SPDX-License-Identifier: Apache-2.0
"""Reference: how a person names a profile: by its file, or by its name alone."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.value import value


@value
class Reference:
    """``file`` is empty for a name that is looked up; ``profile`` is empty for the only profile of a file."""

    file: str = ""
    profile: str = ""

    def __str__(self) -> str:
        return f"{self.file}#{self.profile}" if self.file and self.profile else self.file or self.profile


def parse_reference(text: str) -> Reference:
    """``FILE#PROFILE``, ``FILE`` or ``NAME``; raises :class:`ConfigError`.

    A text with ``#``, with a slash or ending in ``.toml`` is a file's; every other is a name.
    """
    if not text or "\0" in text:
        raise ConfigError("a policy is a profile's name, FILE or FILE#PROFILE")
    file, mark, profile = text.rpartition("#") if "#" in text else (text, "", "")
    if mark and (not file or not profile):
        raise ConfigError(f"{text[:80]!r} must be FILE#PROFILE, with both of them")
    if mark or "/" in text or text.endswith(".toml"):
        return Reference(file=file, profile=profile)
    return Reference(profile=text)


def beside(file: str, other: str) -> str:
    """The path ``other`` as it is meant in ``file``: relative to the directory of that file."""
    folder, slash, _ = file.rpartition("/")
    return other if other.startswith("/") or not slash else f"{folder}/{other}"
