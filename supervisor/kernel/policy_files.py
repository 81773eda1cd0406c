# SPDX-License-Identifier: Apache-2.0
"""Policy files on disk: where they are looked for, whom they may belong to, and reading them.

What a name or a file means is decided in ``supervisor.model.policy``; this module reads what that asks for.
"""

from __future__ import annotations

import os
import stat

from supervisor.errors import ConfigError
from supervisor.kernel.files import read_text
from supervisor.model.policy.catalogue import PLACES, PROJECT, Catalogue, Place, Want
from supervisor.model.policy.file import FILE_MAX_BYTES, PolicyFile, parse_file, unreadable
from supervisor.model.policy.problem import Problem
from supervisor.model.policy.reference import Reference, parse_reference
from supervisor.model.policy.resolve import examine, names, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final

    from supervisor.model.policy.policy import Policy

FILES_MAX: Final = 256
LINKS_MAX: Final = 40  # path_resolution(7)
PROJECT_FILE: Final = ".ringfence.toml"
LIBRARY: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "policies")


def load_policy(text: str) -> Policy:
    """The policy that ``FILE#PROFILE``, ``FILE`` or a profile's name means.

    Raises :class:`ConfigError` with every problem of the file and of what the profile extends, each as
    ``file:line: key: message``; also for a file that cannot be read or trusted.
    """
    return PolicyReader().load(text)


class PolicyReader:
    """Owns the policy files read for one question: each is read once, however it is named."""

    def __init__(self) -> None:
        self._files: dict[str, PolicyFile] = {}
        self._by_inode: dict[tuple[int, int], PolicyFile] = {}
        self._places: tuple[Place, ...] | None = None

    def load(self, text: str) -> Policy:
        """As :func:`load_policy`."""
        reference = parse_reference(text)
        if not reference.file and reference.profile not in names(self.places()) and os.path.lexists(text):
            reference = Reference(file=text)  # FILE without a suffix
        while isinstance(answer := resolve(reference, self._catalogue()), Want):
            self._read(answer)
        return answer

    def check(self, path: str) -> tuple[PolicyFile, tuple[Problem, ...]]:
        """A file and everything wrong with it; what keeps it from being read is a problem, too."""
        self._read(Want(path=path))
        while isinstance(answer := examine(self._files[path], self._catalogue()), Want):
            self._read(answer)
        return self._files[path], answer

    def places(self) -> tuple[Place, ...]:
        """The places, nearest first. A file that cannot be read, trusted or parsed is there, not ``readable``."""
        if self._places is None:
            self._places = tuple([self._place(name) for name in PLACES])
        return self._places

    def _catalogue(self) -> Catalogue:
        return Catalogue(files=self._files, places=self._places)

    def _read(self, want: Want) -> None:
        if not want.path:
            self.places()
        elif want.path not in self._files:
            self._files[want.path] = self._file(want.path, explicit_doubt)

    def _place(self, name: str) -> Place:
        doubt = {PROJECT: found_doubt, "library": no_doubt}.get(name, explicit_doubt)
        try:
            paths = place_paths(name)
        except ConfigError as error:
            return Place(name=name, files=(_why_not(error),))
        return Place(name=name, files=tuple([self._file(path, doubt) for path in paths]))

    def _file(self, path: str, doubt: Callable[[os.stat_result], str]) -> PolicyFile:
        seen: list[tuple[int, int]] = []

        def check(about: os.stat_result) -> str:
            seen.append((about.st_dev, about.st_ino))
            new = seen[0] not in self._by_inode
            return f"more than {FILES_MAX} policy files, which nobody needs" if new and len(self._by_inode) >= FILES_MAX else doubt(about)

        try:
            if doubt is not no_doubt and (reason := way_doubt(path)):
                raise ConfigError(reason, source=path)
            text = read_text(path, FILE_MAX_BYTES, check)
        except ConfigError as error:
            return _why_not(error)
        known = self._by_inode.get(seen[0])
        if known is None:
            known = self._by_inode[seen[0]] = parse_file(text, path)
        return known


def _why_not(error: ConfigError) -> PolicyFile:
    return unreadable(Problem(file=error.source, message="; ".join(error.problems)))


# ---- whom a file may belong to ----


def no_doubt(about: os.stat_result) -> str:
    """The library lies beside the code that reads it: whoever can change it can change both."""
    return ""


def explicit_doubt(about: os.stat_result) -> str:
    """Why root must not take limits from this file or folder; anybody else may take them from any."""
    if os.geteuid() != 0:
        return ""
    if about.st_uid != 0:
        return f"belongs to user {about.st_uid}, who could loosen what root enforces; make it root's (chown root)"
    if about.st_mode & 0o022:
        return f"can be written by others than root (mode {stat.S_IMODE(about.st_mode):04o}); take that away (chmod go-w)"
    return ""


def found_doubt(about: os.stat_result) -> str:
    """The same for a file that nobody named: it must be the user's own or root's."""
    me = os.geteuid()
    if me != 0 and about.st_uid not in (0, me):
        return f"belongs to user {about.st_uid}, neither you nor root, and was found, not named; name it to use it all the same"
    if me != 0 and about.st_mode & 0o002:
        return "can be written by everybody and was found, not named; take that away (chmod o-w)"
    return explicit_doubt(about)


def way_doubt(path: str) -> str:
    """Why root must not go this way to a file: a folder or a link on it, in place of which somebody else could put another.

    Every folder from ``/`` down is looked at, those that links lead through too, as sshd's StrictModes does. One with the sticky
    bit, such as /tmp, will do: what is root's in it nobody else can rename or remove. What is not there is left to who opens it.
    """
    if os.geteuid() != 0:
        return ""
    folder, links = "/", 0
    try:
        left = _parts(os.path.join(os.getcwd(), path))
        while True:
            if reason := _folder_doubt(os.stat(folder)):
                return f"its folder {folder} {reason}"
            if not left:
                return ""
            part = left.pop()
            below = os.path.dirname(folder) if part == ".." else os.path.join(folder, part)
            about = os.lstat(below)
            if stat.S_ISDIR(about.st_mode):
                folder = below
            elif not stat.S_ISLNK(about.st_mode):
                return ""
            elif about.st_uid != 0:
                return f"the link {below} on the way to it belongs to user {about.st_uid}, who could turn it; name the file itself"
            elif (links := links + 1) > LINKS_MAX:
                return ""
            else:
                target = os.readlink(below)
                folder = "/" if target.startswith("/") else folder
                left += _parts(target)
    except (OSError, ValueError):
        return ""


def _parts(path: str) -> list[str]:
    """The names on the way, the last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _folder_doubt(about: os.stat_result) -> str:
    if about.st_uid != 0:
        return f"belongs to user {about.st_uid}, who could put another file in its place; keep it in a folder of root's"
    if about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(about.st_mode):04o}"
        return f"can be written by others than root (mode {mode}), who could put another file in its place; take that away (chmod go-w)"
    return ""


# ---- where they are looked for ----


def place_paths(name: str) -> list[str]:
    """The files of one place in order of their names; empty when there is none. Raises :class:`ConfigError`."""
    if name == PROJECT:
        found = _project_file()
        return [found] if found else []
    folder = place_folder(name)
    return _listed(folder, trusted=name == "library") if folder else []


def place_folder(name: str) -> str:
    """The directory of the place ``user``, ``system`` or ``library``; empty where there is none.

    RINGFENCE_CONFIG, when it names a folder, stands for the system's and the user's. Root has no place of a user.
    """
    if name == "library":
        return LIBRARY
    given = os.environ.get("RINGFENCE_CONFIG", "")
    if given:
        return os.path.join(given, "policy.d") if name == "system" and os.path.isdir(given) else ""
    if name == "system":
        return "/etc/ringfence/policy.d"
    home = os.environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):  # the XDG rule: a relative path is ignored
        home = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(home, "ringfence", "policy.d") if os.geteuid() != 0 else ""


def watched_paths(files: Iterable[str]) -> list[str]:
    """Everything whose change may change what a reference means: these files, behind their links too, and the places."""
    paths = [path for file in files for path in (file, os.path.realpath(file))]
    folders = [folder for name in PLACES if name not in (PROJECT, "library") and (folder := place_folder(name))]
    return [*paths, *(f"{folder}/" for folder in folders), *_project_candidates()]


def _listed(folder: str, *, trusted: bool) -> list[str]:
    try:
        about = os.stat(folder)
        found = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(error.strerror or str(error), source=folder) from None
    wanted = [os.path.join(folder, name) for name in found if name.endswith(".toml") and not name.startswith(".")]
    if wanted and not trusted and (reason := explicit_doubt(about)):
        raise ConfigError(reason, source=folder)
    return wanted


def _project_file() -> str:
    """The nearest ``.ringfence.toml`` from the working directory up to the root of the checkout; outside of one, here only."""
    return next((path for path in _project_candidates() if os.path.lexists(path)), "")


def _project_candidates() -> list[str]:
    try:
        folder = os.getcwd()
    except OSError:  # the working directory is gone
        return []
    folders = [folder]
    while not os.path.lexists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            folders = folders[:1]
            break
        folders.append(folder := parent)
    return [os.path.join(folder, PROJECT_FILE) for folder in folders]
