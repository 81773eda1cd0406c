# SPDX-License-Identifier: Apache-2.0
"""From a systemd unit: its resource-control directives are our limits, by the same names.

Sources: systemd.resource-control(5), systemd.exec(5) and systemd.syntax(7) of systemd 252 to 257.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.convert.converted import Conversion
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.spelling import DIRECTIVES
from supervisor.model.units import INFINITY, parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from supervisor.model.convert.converted import Converted

#: Sections that may hold directives of resource control.
SECTIONS: Final = ("Service", "Slice", "Scope", "Socket", "Mount", "Swap")
#: Directives that are said in another way, or not at all.
HINTS: Final = {
    "User": "who runs a job is said when it is started (--user)",
    "Group": "who runs a job is said when it is started (--group)",
    "Nice": "said when the job is started (--nice)",
    "OOMScoreAdjust": "said when the job is started (--oom-score-adjust)",
    "UMask": "said when the job is started (--umask)",
    "WorkingDirectory": "said when the job is started (--working-directory)",
    "Environment": "said when the job is started (--setenv)",
    "CPUAffinity": "said when the job is started (--cpu-affinity); allowed_cpus is the kind that the job cannot change",
    "NoNewPrivileges": "the sandbox levels basic and strict do this, and more",
    "PrivateTmp": "the sandbox levels basic and strict do this, and more",
    "PrivateNetwork": 'a sandbox with level = "strict" and network = "none" does this, and more',
    "BindPaths": 'a sandbox with level = "strict" takes binds, in a root that is otherwise empty',
    "BindReadOnlyPaths": 'a sandbox with level = "strict" takes binds, in a root that is otherwise empty',
    "ProtectSystem": 'a sandbox with level = "strict" does this, and more',
    "ProtectHome": 'a sandbox with level = "strict" does this, and more',
    "SystemCallFilter": "the presets of a sandbox differ from systemd's groups; choose one with syscalls",
    "MemoryLimit": "cgroup v1's; say MemoryMax",
    "CPUShares": "cgroup v1's; say CPUWeight",
    "BlockIOWeight": "cgroup v1's; say IOWeight",
    "OOMPolicy": "a job whose tree has one process killed for memory is ended as a whole, always",
    "TimeoutStopSec": "said when the job is started (--kill-grace)",
}
_BANDWIDTHS: Final = ("io_read_bandwidth_max", "io_write_bandwidth_max")
_LISTS: Final = (*_BANDWIDTHS, "io_read_iops_max", "io_write_iops_max")


def convert_unit(text: str, source: str) -> Converted:
    """The profile of a unit file's text. Raises :class:`ConfigError` for what is no unit file, naming the line."""
    made = Conversion(source)
    lists: dict[str, list[str]] = {}
    others: set[str] = set()
    for section, key, item, line in _assignments(text, source):
        where = f"{key}={item[:60]} (line {line})"
        if section not in SECTIONS:
            others.add(section)
            continue
        name = DIRECTIVES.get(key)
        if name is None:
            hint = HINTS.get(key)
            made.lost.append(f"{where}: {hint}" if hint else where)
        elif not item:
            made.unset(name)
            lists.pop(name, None)
        elif name in _LISTS:
            lists.setdefault(name, []).append(_in_bytes(item) if name in _BANDWIDTHS else item)
        else:
            made.limit(name, _spelled(name, item), where)
    for name, items in lists.items():
        made.limit(name, items, LIMITS[name].directive)
    if others:
        made.lost.append(f"the sections {', '.join(f'[{name}]' for name in sorted(others))}, which limit nothing")
    return made.result()


def _in_bytes(item: str) -> str:
    """A device and its bandwidth, whose K, M, G and T are powers of 1000 for systemd and of 1024 for us; what is no size stays."""
    path, _, amount = item.partition(" ")
    try:
        size_bytes = parse_bytes(amount, decimal=True)
    except ValueError:
        return item
    return item if size_bytes == INFINITY else f"{path} {size_bytes}"


def _spelled(name: str, item: str) -> str:
    """systemd separates processors by blanks or commas; we take commas."""
    return ",".join(item.replace(",", " ").split()) if LIMITS[name].unit == "cpus" else item


def _assignments(text: str, source: str) -> Iterator[tuple[str, str, str, int]]:
    """(section, key, value, line): comments left out, continued lines put together as systemd does."""
    section, began = "", 0
    held: list[str] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not held):
            continue
        began = began or number
        if line.endswith("\\"):
            held.append(line[:-1])
            continue
        whole, start = " ".join([*held, line]), began
        held.clear()
        began = 0
        if whole.startswith("[") and whole.endswith("]"):
            section = whole[1:-1]
            continue
        key, equals, item = whole.partition("=")
        if not equals or not section:
            raise ConfigError(f"{source}:{start}: {whole[:60]!r} is neither [Section] nor Key=Value in one")
        yield section, key.strip(), item.strip(), start
    if held:
        raise ConfigError(f"{source}:{began}: the last line is continued, but nothing follows")
