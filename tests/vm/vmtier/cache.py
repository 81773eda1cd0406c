"""Where build output lives, and how it gets there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vmtier.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VM_DIR = Path(__file__).resolve().parent.parent
CHECKOUT = VM_DIR.parent.parent
# Before a command: the kernel kills it when we end, however that happens.
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
TAIL_LINES = 30


def say(text: str) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)


def cache_root() -> Path:
    given = os.environ.get("RINGFENCE_VM_CACHE")
    if given:
        root = Path(given)
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringfence" / "vm"
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def digest(parts: Iterable[bytes]) -> str:
    """A short name for a sequence of byte strings, whose borders count."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()[:16]


def file_parts(root: Path, paths: Iterable[Path]) -> Iterator[bytes]:
    """Name, executable bit and content of each file, for digest()."""
    for path in sorted(paths):
        yield str(path.relative_to(root)).encode()
        if path.is_symlink():
            yield b"link " + str(path.readlink()).encode()
        else:
            yield b"exec" if os.access(path, os.X_OK) else b"file"
            yield path.read_bytes()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock among all processes that use this cache; says so when it has to wait."""
    with (cache_root() / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that holds the {name} lock")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder in the cache that is removed at the end, even when this process is killed.

    A watcher process waits for the end of file on a pipe that only we hold open, then removes the folder.
    It has a session of its own, so that a Ctrl-C at the terminal does not reach it.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}.", dir=cache_root()))
    # --one-file-system: whatever a killed tool may have left mounted in there is not ours to empty.
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; rm -rf --one-file-system -- "$1"', "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait()


def tool(command: Sequence[str], folder: Path, doing: str, *, temporary: bool = True) -> None:
    """Run a tool whose output matters only when it fails; it dies with us.

    Its temporary files go to the folder unless told otherwise.
    """
    environment = {**os.environ, "TMPDIR": str(folder)} if temporary else None
    with (folder / "tool.log").open("w+") as log:
        done = subprocess.run(
            [*DIE_WITH_US, *command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
        log.seek(0)
        if done.returncode:
            tail = "".join(log.readlines()[-TAIL_LINES:]).rstrip()
            raise VmError(f"{command[0]} failed with status {done.returncode} while {doing}:\n{tail}")


def discard_old(pattern: str, keep: int) -> None:
    """Keep the folders used last, and any that a process holds locked."""
    found = sorted(cache_root().glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in found[keep:]:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder)
        finally:
            os.close(handle)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Mark a folder as used now, and keep discard_old() from it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.utime(folder)
        yield
    finally:
        os.close(handle)


def publish(folder: Path, target: Path) -> None:
    """Make a finished folder visible under its final name, in one step."""
    if target.exists():
        shutil.rmtree(target)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    folder.rename(target)
