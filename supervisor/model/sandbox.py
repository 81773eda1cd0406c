# SPDX-License-Identifier: Apache-2.0
"""Sandbox: what a job may see and touch, before anything is known about the host.

Three levels, each a documented list (docs/explanation/sandbox.md): ``none`` takes nothing away,
``basic`` keeps the host's view and takes privileges and writing away, ``strict`` builds a world of
its own. Parsing is pure and reports every problem at once.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.units import parse_bytes
from supervisor.model.value import field_names, set_field, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

NONE: Final = "none"
BASIC: Final = "basic"
STRICT: Final = "strict"
LEVELS: Final = (NONE, BASIC, STRICT)

#: From the least to the most that is reachable.
NETWORKS: Final = ("none", "loopback", "host")
MODES: Final = ("ro", "rw")
CHANGES: Final = ("discard", "keep", "list")

DEFAULT_ID: Final = 1000
ID_MAX: Final = (1 << 32) - 2
DEFAULT_TMP_BYTES: Final = 64 << 20
DEFAULT_TMP_INODES: Final = 16384
DEFAULT_SHM_BYTES: Final = 64 << 20
HOST_NAME_MAX: Final = 64
PATH_MAX: Final = 4095
#: What the sandbox makes itself: nothing of the host's is put there.
OWN_PLACES: Final = ("/proc", "/dev")


@value
class Bind:
    """A file or directory of the host inside the sandbox: ``source`` at ``target`` (the same path unless given).

    ``mode``: ``ro`` or ``rw``. Raises :class:`ConfigError`.
    """

    source: str
    target: str = ""
    mode: str = "ro"

    def _check(self) -> None:
        problems = _path_problems("source", self.source)
        if not self.target:
            set_field(self, "target", self.source)
        else:
            problems += _path_problems("target", self.target)
        problems += _choice("mode", self.mode, MODES)
        if not problems:
            set_field(self, "source", _normal(self.source))
            set_field(self, "target", _normal(self.target))
            problems += _target_problems(self.target)
        if problems:
            raise ConfigError(*[f"bind {self.source!r}: {problem}" for problem in problems])


@value
class Overlay:
    """A directory of the host that the job may change without changing it.

    ``changes``: ``discard`` throws what the job wrote away, ``list`` reports it first, ``keep`` leaves
    it in the directory ``upper``. Raises :class:`ConfigError`.
    """

    source: str
    target: str = ""
    changes: str = "discard"
    upper: str | None = None

    def _check(self) -> None:
        problems = _path_problems("source", self.source)
        if not self.target:
            set_field(self, "target", self.source)
        else:
            problems += _path_problems("target", self.target)
        problems += _choice("changes", self.changes, CHANGES)
        if self.upper is not None:
            problems += _path_problems("upper", self.upper)
        if (self.upper is None) == (self.changes == "keep"):
            problems.append("upper: names the directory that keeps the changes; give it with changes = 'keep', and only then")
        if not problems:
            set_field(self, "source", _normal(self.source))
            set_field(self, "target", _normal(self.target))
            if self.upper is not None:
                set_field(self, "upper", _normal(self.upper))
                if _within(self.upper, self.source) or _within(self.source, self.upper):
                    problems.append("upper: must not lie in the source, nor the source in it: the changes would be part of what is changed")
            problems += _target_problems(self.target)
        if problems:
            raise ConfigError(*[f"overlay {self.source!r}: {problem}" for problem in problems])


@value
class Sandbox:
    """What a job may see and touch. Construction fills in the defaults of the level and raises
    :class:`ConfigError` with every problem found.

    ``network``: ``none``, ``loopback`` or ``host``; none under strict, else the host's. ``bind``: files and
    directories of the host (:class:`Bind`, or texts as ``--bind`` takes them). ``overlay``: directories
    whose changes do not reach the host. ``tmp_size``, ``shm_size``: bytes, or ``"64M"``; ``tmp_inodes``: the
    number of files. ``uid``, ``gid``: the ids the job sees, 1000 under strict. ``time_namespace``: clocks
    since boot begin at zero. ``syscalls``: the preset of the system call filter, ``default`` under strict and
    ``none`` else; ``syscalls_allow`` and ``syscalls_deny`` change it by names of calls, or of ``@groups``;
    ``syscalls_kill``: the first denied call ends the job, verdict ``syscall_denied``. ``landlock``: ``None`` uses it where
    the kernel has it, ``True`` insists, ``False`` leaves it out. ``clear_env``: the job gets a small clean environment
    and what ``keep_env`` names. ``private_tmp``: a /tmp of its own.
    """

    level: str = NONE
    network: Any = None
    bind: Any = ()
    overlay: Any = ()
    tmp_size: Any = DEFAULT_TMP_BYTES
    tmp_inodes: int = DEFAULT_TMP_INODES
    shm_size: Any = DEFAULT_SHM_BYTES
    hostname: str = "sandbox"
    uid: int | None = None
    gid: int | None = None
    time_namespace: bool = False
    syscalls: Any = None
    syscalls_allow: tuple[str, ...] = ()
    syscalls_deny: tuple[str, ...] = ()
    syscalls_kill: bool = False
    landlock: bool | None = None
    clear_env: Any = None
    keep_env: tuple[str, ...] = ()
    private_tmp: Any = None

    def _check(self) -> None:
        problems = _choice("level", self.level, LEVELS)
        _fill(self)
        fields = _field_problems(self)  # first: they make of the fields what the level's needs are seen from
        problems += fields if problems else fields + _level_problems(self)
        if problems:
            raise ConfigError(*[f"sandbox: {problem}" for problem in problems])


def parse_sandbox(given: Sandbox | str | Mapping[str, Any] | None) -> Sandbox:
    """A :class:`Sandbox` from the name of a level or a table of its fields; raises :class:`ConfigError`."""
    if given is None:
        return NO_SANDBOX
    if isinstance(given, Sandbox):
        return given
    if isinstance(given, str):
        return Sandbox(level=given)
    if not hasattr(given, "items"):
        raise ConfigError(f"sandbox: must be a level ({', '.join(LEVELS)}) or a table, not {type(given).__name__}")
    known = field_names(Sandbox)
    problems = [f"sandbox: {name!r} is not a key; there are {', '.join(known)}" for name in given if name not in known]
    fields = {name: item for name, item in given.items() if name in known}
    try:
        made = Sandbox(**fields)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return made


def is_self_contained(sandbox: Sandbox) -> bool:
    """Nothing of the host's is mounted in it but the system's directories, so nobody has to wait until it is taken apart: to unmount
    what it showed, or to read what it wrote."""
    return sandbox.level == STRICT and not sandbox.bind and not sandbox.overlay


def parse_bind(text: str, base: str = "") -> Bind:
    """A :class:`Bind` from ``SOURCE[:TARGET][:ro|rw]``; ``base`` is put in front of a relative source.

    Raises :class:`ConfigError`.
    """
    parts = text.split(":")
    mode = parts.pop() if len(parts) > 1 and parts[-1] in MODES else "ro"
    if len(parts) > 2:
        raise ConfigError(f"bind {text!r}: must be SOURCE[:TARGET][:ro|rw]; for paths with a colon use a policy file")
    source = parts[0]
    if base and source and not source.startswith("/"):
        source = _absolute(base, source)
    return Bind(source=source, target=parts[1] if len(parts) == 2 else "", mode=mode)


def _absolute(base: str, path: str) -> str:
    kept = [part for part in base.split("/") if part]
    for part in path.split("/"):
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)


# ---- the defaults of a level ----


def _fill(sandbox: Sandbox) -> None:
    strict, confined = sandbox.level == STRICT, sandbox.level != NONE
    defaults = {
        "network": "none" if strict else "host",
        "syscalls": "default" if strict else "none",
        "clear_env": confined,
        "private_tmp": confined,
        "uid": DEFAULT_ID if strict else None,
        "gid": DEFAULT_ID if strict else None,
    }
    for name, default in defaults.items():
        if getattr(sandbox, name) is None:
            set_field(sandbox, name, default)
    if sandbox.landlock is None and not confined:
        set_field(sandbox, "landlock", False)


# ---- what can be wrong ----


def _field_problems(sandbox: Sandbox) -> list[str]:
    problems = _choice("network", sandbox.network, NETWORKS)
    for name in ("tmp_size", "shm_size"):
        try:
            set_field(sandbox, name, _size(getattr(sandbox, name)))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not _is_number(sandbox.tmp_inodes) or not 16 <= sandbox.tmp_inodes <= 1 << 31:
        problems.append("tmp_inodes: must be a number of files, 16 or more")
    for name in ("uid", "gid"):
        number = getattr(sandbox, name)
        if number is not None and (not _is_number(number) or not 0 <= number <= ID_MAX):
            problems.append(f"{name}: must be a number, 0 to {ID_MAX}")
    problems += [
        f"{name}: must be true or false"
        for name in ("time_namespace", "clear_env", "private_tmp", "syscalls_kill")
        if not isinstance(getattr(sandbox, name), bool)
    ]
    if sandbox.landlock not in (None, True, False):
        problems.append("landlock: must be true or false")
    problems += _host_name_problems(sandbox.hostname)
    calls = _name_list(sandbox, "syscalls_allow") + _name_list(sandbox, "syscalls_deny")
    problems += calls + _name_list(sandbox, "keep_env")
    if not isinstance(sandbox.syscalls, str) or not sandbox.syscalls:
        problems.append("syscalls: must be the name of a preset")
    elif not calls:
        problems += _syscall_problems(sandbox)
    return problems + _places(sandbox)


def _syscall_problems(sandbox: Sandbox) -> list[str]:
    """What is wrong with the names; the tables are loaded only for those that must be looked up."""
    if sandbox.syscalls in ("none", "default") and not (sandbox.syscalls_allow or sandbox.syscalls_deny):
        return []
    from supervisor.model.seccomp import syscall_profile

    try:
        syscall_profile(sandbox.syscalls, sandbox.syscalls_allow, sandbox.syscalls_deny)
    except ConfigError as error:
        return list(error.problems)
    return []


def _places(sandbox: Sandbox) -> list[str]:
    """Binds and overlays from every spelling, in the order in which they are put: what lies above first."""
    problems: list[str] = []
    binds = _values(sandbox.bind, "bind", Bind, parse_bind, problems)
    overlays = _values(sandbox.overlay, "overlay", Overlay, lambda text: Overlay(source=text), problems)
    set_field(sandbox, "bind", tuple(sorted(binds, key=_by_depth)))
    set_field(sandbox, "overlay", tuple(sorted(overlays, key=_by_depth)))
    entries: dict[str, int] = {}
    for place in (*binds, *overlays):
        entries[place.target] = entries.get(place.target, 0) + 1
    problems += [f"bind: {target!r} is the target of more than one entry" for target in sorted(entries) if entries[target] > 1]
    return problems


def _by_depth(place: Any) -> tuple[int, str]:
    return place.target.count("/"), place.target


def _values(given: Any, name: str, kind: Any, parse: Any, problems: list[str]) -> list[Any]:
    if isinstance(given, (str, bytes)) or not isinstance(given, (list, tuple)):
        problems.append(f"{name}: must be a list")
        return []
    made = []
    for item in given:
        try:
            if isinstance(item, kind):
                made.append(item)
            elif isinstance(item, str):
                made.append(parse(item))
            else:
                made.append(_from_table(item, name, kind))
        except ConfigError as error:
            problems += error.problems
    return made


def _from_table(item: Any, name: str, kind: Any) -> Any:
    known = field_names(kind)
    if not hasattr(item, "items"):
        raise ConfigError(f"{name}: an entry must be a text or a table with {', '.join(known)}, not {type(item).__name__}")
    unknown = [key for key in item if key not in known]
    if unknown:
        raise ConfigError(f"{name}: {unknown[0]!r} is not a key of an entry; there are {', '.join(known)}")
    if "source" not in item:
        raise ConfigError(f"{name}: an entry needs a source")
    return kind(**item)


def _level_problems(sandbox: Sandbox) -> list[str]:
    """What only a world of its own can have."""
    if sandbox.level == STRICT:
        return [] if sandbox.private_tmp else ["private_tmp: under strict there is no other /tmp"]
    strict = [name for name, plain in (("network", "host"), ("overlay", ()), ("time_namespace", False)) if getattr(sandbox, name) != plain]
    strict += [name for name in ("uid", "gid") if getattr(sandbox, name) is not None]
    problems = [f"{name}: needs the level strict" for name in strict]
    if sandbox.level == NONE:
        asked = [name for name in ("bind", "landlock", "private_tmp", "clear_env", "keep_env") if getattr(sandbox, name)]
        problems += [f"{name}: needs the level basic or strict" for name in asked]
    moved = [bind.source for bind in sandbox.bind if sandbox.level == BASIC and bind.source != bind.target]
    problems += [f"bind: {source!r} at another place needs the level strict; basic keeps the host's paths" for source in moved]
    return problems


def _choice(name: str, given: object, choices: tuple[str, ...]) -> list[str]:
    if isinstance(given, str) and given in choices:
        return []
    return [f"{name}: {str(given)[:60]!r} is none of {', '.join(choices)}"]


def _is_number(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _size(given: Any) -> int:
    if isinstance(given, (bool, float)) or not isinstance(given, (int, str)):
        raise ValueError("must be a whole number of bytes or a text such as '64M'")
    amount = parse_bytes(given)
    if amount == float("inf"):
        raise ValueError("must be finite: it is held in memory")
    if amount < 4096:
        raise ValueError("must be at least 4K")
    return int(amount)


def _name_list(sandbox: Sandbox, name: str) -> list[str]:
    given = getattr(sandbox, name)
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, str) and item for item in given):
        return [f"{name}: must be a list of names"]
    set_field(sandbox, name, tuple(given))
    return []


def _host_name_problems(name: object) -> list[str]:
    if not isinstance(name, str) or not 0 < len(name) <= HOST_NAME_MAX:
        return [f"hostname: must have 1 to {HOST_NAME_MAX} characters"]
    if not all(char.isascii() and (char.isalnum() or char in "-.") for char in name):
        return ["hostname: may hold letters, digits, '-' and '.' only"]
    return []


def _path_problems(name: str, path: object) -> list[str]:
    if not isinstance(path, str) or not path:
        return [f"{name}: must be a path"]
    if not path.startswith("/"):
        return [f"{name}: {path[:60]!r} must be absolute"]
    try:
        size_bytes = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a lone surrogate, which stands for no byte of a name
        size_bytes = PATH_MAX + 1
    if "\0" in path or size_bytes > PATH_MAX:
        return [f"{name}: is no path the kernel can take (a NUL, a lone surrogate, or longer than {PATH_MAX} bytes)"]
    if ".." in path.split("/"):
        return [f"{name}: {path[:60]!r} must not hold '..'"]
    return []


def _target_problems(target: str) -> list[str]:
    if target == "/":
        return ["target: must not be '/', which the sandbox builds itself"]
    own = [place for place in OWN_PLACES if target == place or target.startswith(place + "/")]
    return [f"target: must not lie in {own[0]}, which the sandbox builds itself"] if own else []


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _normal(path: str) -> str:
    return "/" + "/".join([part for part in path.split("/") if part not in ("", ".")])


#: A job without a sandbox.
NO_SANDBOX: Final = Sandbox()
