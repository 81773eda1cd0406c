# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy convert``: a profile from another tool's configuration."""

from __future__ import annotations

import sys

from supervisor.cli.policy.verbs import UsageError, print_json, read_options
from supervisor.errors import ConfigError
from supervisor.model.policy.profile import NAME_CHARACTERS, NAME_MAX
from supervisor.model.spelling import nearest
from supervisor.model.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.convert.converted import Converted

KINDS: Final = ("systemd", "isolate", "docker")
ARGUMENTS_MAX: Final = 100_000
UNIT_MAX_BYTES: Final = 1 << 20


def convert(argv: list[str]) -> int:
    """Print the profile; what cannot be carried over stands in it as comments and on standard error."""
    options, operands = read_options(argv, {"json": 0, "strict": 0, "name": 1}, 2, ARGUMENTS_MAX, permute=False)
    kind, *words = operands
    if words[:1] == ["--"]:
        words = words[1:]
    converted = _converted(kind, words)
    name = options.get("name") or "converted"
    if len(name) > NAME_MAX or not NAME_CHARACTERS.issuperset(name):
        raise UsageError("--name: a profile's name is made of letters, digits, '_', '-' and '.', at most 100 of them")
    text = converted.text(name)
    if "json" in options:
        print_json(
            {"version": 1, "name": name, "toml": text, **{key: plain(getattr(converted, key)) for key in ("limits", "sandbox", "lost")}}
        )
    else:
        print(text, end="")
        for item in converted.lost:
            print(f"ringfence: not carried over: {item}", file=sys.stderr)
    return 1 if converted.lost and "strict" in options else 0


def _converted(kind: str, words: list[str]) -> Converted:
    if kind == "systemd":
        from supervisor.model.convert.systemd import convert_unit

        if len(words) != 1:
            raise UsageError("convert systemd takes one FILE, or - for standard input")
        return convert_unit(_unit_text(words[0]), "standard input" if words[0] == "-" else words[0])
    if kind == "isolate":
        from supervisor.model.convert.isolate import convert_isolate

        return convert_isolate(words[1:] if words[:1] == ["isolate"] else words)
    if kind == "docker":
        from supervisor.model.convert.docker import convert_docker

        return convert_docker(words)
    raise UsageError(f"convert: {kind[:60]!r} is none of {', '.join(KINDS)}{nearest(kind, KINDS)}")


def _unit_text(path: str) -> str:
    from supervisor.kernel.files import read_text

    if path != "-":
        return read_text(path, UNIT_MAX_BYTES)
    raw = sys.stdin.buffer.read(UNIT_MAX_BYTES + 1) if sys.stdin is not None else b""
    if len(raw) > UNIT_MAX_BYTES:
        raise ConfigError(f"larger than {UNIT_MAX_BYTES} bytes, which no unit needs", source="standard input")
    return raw.decode("utf-8", "replace")
