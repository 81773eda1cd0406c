# SPDX-License-Identifier: Apache-2.0
"""Where our cgroups may live: the sources of the design, tried in order.

Each supervisor makes one directory ``ringfence-PID-NUMBER`` below the place it found, marks it and holds
a lock on it, so that a later start can tell the dead ones from the living (see sweep.py).
"""

from __future__ import annotations

import os

from supervisor.errors import ConfigError
from supervisor.kernel import native
from supervisor.kernel.sweep import looks_ours, mark, new_name, sweep, sweep_scopes
from supervisor.model.host import CONTROLLERS, CgroupFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

LEAF: Final = "supervisor"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NoCgroup(Exception):
    """One source cannot be used; the text says why."""


class CgroupRoot:
    """Owns one directory of the cgroup tree, locked, in which the jobs' cgroups are made."""

    def __init__(self, base: str, name: str, fd: int, facts: CgroupFacts) -> None:
        self.base = base
        self.name = name
        self.fd = fd
        self.facts = facts

    def close(self) -> None:
        """Remove the directory and let the lock go. Jobs must be gone; what is left is swept later."""
        if self.fd < 0:
            return
        try:
            os.rmdir(os.path.join(self.base, self.name))
        except OSError:
            pass  # still populated by a task nobody can kill: the next start sweeps it
        os.close(self.fd)
        self.fd = -1


def open_cgroup_root(given: str = "") -> CgroupRoot:
    """Find a place for our cgroups and make our directory in it.

    ``given``: a directory named by the caller (or by RINGFENCE_CGROUP); it must work or
    :class:`ConfigError` is raised. Raises :class:`NoCgroup` with every reason when no source works.
    """
    if given:
        try:
            return _make_root("path given", given, move=False)
        except (NoCgroup, OSError) as error:
            raise ConfigError(f"cgroup: {given} cannot be used: {error}") from None
    mount = find_mount()
    reasons = []
    for with_controllers in (True, False):  # a place without them still holds trees, so it serves when nothing better is found
        for source, base, move in _sources(mount):
            try:
                return _make_root(source, base() if callable(base) else base, move, with_controllers)
            except (NoCgroup, OSError) as error:
                reasons.append(f"{source}: {getattr(error, 'strerror', None) or error}")
    raise NoCgroup("no cgroup v2 subtree can be used (" + "; ".join(dict.fromkeys(reasons)) + ")")


def find_mount() -> str:
    """Where cgroup v2 is mounted, on hybrid hosts too; raises :class:`NoCgroup`."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "/sys/fs/cgroup"
    for line in native.read_path("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return left.split(" ")[4]
    raise NoCgroup("cgroup v2 is not mounted")


def own_cgroup() -> str:
    """Our own cgroup's path inside the mount, starting with a slash; raises :class:`NoCgroup`."""
    for line in native.read_path("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    raise NoCgroup("this process is in no cgroup v2 group")


def _sources(mount: str) -> Iterator[tuple[str, str | Callable[[], str], bool]]:
    """(name, directory or a function that makes it, whether we must move into a leaf of it)."""
    own = own_cgroup()
    path = mount + own.rstrip("/")
    if any(looks_ours(name) for name in own.split("/")):
        yield "inside a job of ours", _below_leaf(path), True
        return
    if own.endswith("/" + LEAF) and os.access(os.path.dirname(path) + "/cgroup.procs", os.W_OK) and own != "/" + LEAF:
        yield "delegated", os.path.dirname(path), True
    if _is_delegated(path):
        yield "delegated", path, True
    if os.geteuid() != 0:
        yield "user scope", _user_scope, True
    elif own == "/" and os.path.exists(mount + "/cgroup.events"):
        yield "container", mount, True
    else:
        yield "root", mount, False


def _below_leaf(path: str) -> str:
    return os.path.dirname(path) if path.endswith("/" + LEAF) else path


def _user_scope() -> str:
    from supervisor.kernel.user_scope import ScopeError, enter_user_scope

    try:
        enter_user_scope()
    except ScopeError as error:
        raise NoCgroup(str(error)) from None
    scope = find_mount() + own_cgroup()
    sweep_scopes(scope)
    return scope


def _is_delegated(path: str) -> bool:
    """systemd marks what it delegated (user.delegate or trusted.delegate, systemd.resource-control(5));
    elsewhere a directory that the kernel lets us write and that is ours counts."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return os.access(path + "/cgroup.procs", os.W_OK)
        except OSError:
            continue
    return False


def _enter_leaf(base: str, with_controllers: bool) -> None:
    """Controllers can be enabled only where no process lives: step aside into a leaf of our own.

    Raises :class:`NoCgroup`, and steps back, when others live there and controllers are a must.
    """
    leaf = os.path.join(base, LEAF)
    there = os.path.realpath(find_mount() + own_cgroup()) == os.path.realpath(leaf)
    if not there:
        _step_into(leaf)
    if with_controllers and not _enable(base) and native.read_path(os.path.join(base, "cgroup.controllers")).strip():
        if not there:
            _step_back(base, leaf)
        raise NoCgroup("other processes live in it, so its controllers cannot be enabled")


def _step_into(leaf: str) -> None:
    try:
        os.mkdir(leaf)
    except FileExistsError:
        pass
    native.write_path(os.path.join(leaf, "cgroup.procs"), str(os.getpid()))


def _step_back(base: str, leaf: str) -> None:
    native.write_path(os.path.join(base, "cgroup.procs"), str(os.getpid()))
    try:
        os.rmdir(leaf)
    except OSError:
        pass  # another supervisor stepped into it meanwhile


def _make_root(source: str, base: str, move: bool, with_controllers: bool = False) -> CgroupRoot:
    if not os.path.exists(os.path.join(base, "cgroup.controllers")):  # before the sweep: it kills and removes
        raise NoCgroup("not a cgroup v2 directory")
    sweep(base)
    if move:
        _enter_leaf(base, with_controllers)
    _enable(base)
    name, fd = _make_directory(base)
    try:
        path = os.path.join(base, name)
        return CgroupRoot(base, name, fd, _facts(source, path, fd, _enable(path)))
    except BaseException:
        os.close(fd)
        os.rmdir(os.path.join(base, name))
        raise


def _make_directory(base: str) -> tuple[str, int]:
    """Make and lock a directory of ours; its name and descriptor."""
    for _ in range(16):
        name = new_name()
        path = os.path.join(base, name)
        os.mkdir(path, 0o755)
        try:
            fd = _lock(path)
        except BaseException:
            os.rmdir(path)
            raise
        if fd is not None:
            mark(path)
            return name, fd
    raise NoCgroup(f"no directory of ours stays in {base}")


def _lock(path: str) -> int | None:
    """Open and lock our new directory; None when a sweeper took it first."""
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        native.lock(fd, wait=True)
        if os.access("cgroup.procs", os.F_OK, dir_fd=fd):  # not by opening it: without descriptors left it is still there
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _enable(folder: str) -> frozenset[str]:
    """Hand every controller there is to the directories below; returns those that really are on."""
    there = native.read_path(os.path.join(folder, "cgroup.controllers")).split()
    path = os.path.join(folder, "cgroup.subtree_control")
    on = native.read_path(path).split()
    for name in CONTROLLERS:
        if name in there and name not in on:
            try:
                native.write_path(path, "+" + name)
            except OSError:
                continue  # EBUSY: processes live here; what is really on is read back below
    return frozenset(native.read_path(path).split()) & frozenset(CONTROLLERS)


def _facts(source: str, path: str, fd: int, controllers: frozenset[str]) -> CgroupFacts:
    def has(name: str) -> bool:
        return native.read_at(fd, name) is not None

    return CgroupFacts(
        source=source,
        path=path,
        controllers=controllers,
        has_kill=os.path.exists(os.path.join(path, "cgroup.kill")),
        has_freeze=has("cgroup.freeze"),
        has_swap_max=has("memory.swap.max"),
    )
