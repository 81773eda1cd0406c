"""The read-only disk that carries a tree and its wheel into the guest.

In the guest: /job/tree is the tree with the compiled parts beside their sources, /job/site is the unpacked wheel
(on the path of /opt/venv), /job/bin its commands, /job/wheels the wheel itself and the third-party ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

from vmtier.errors import VmError

if TYPE_CHECKING:
    from pathlib import Path

GUEST_PYTHON = b"/opt/venv/bin/python3"


def tree_files(tree: Path) -> list[Path]:
    """Tracked and untracked files, without ignored ones; every file when the tree is not a git checkout."""
    if (tree / ".git").exists():
        # Somebody else's checkout is fine to read: only names are asked for.
        command = ["git", "-c", f"safe.directory={tree}", "-C", str(tree), "ls-files", "-z"]
        done = subprocess.run([*command, "--cached", "--others", "--exclude-standard"], check=False, capture_output=True)
        if done.returncode:
            raise VmError(f"git ls-files failed in {tree}: {done.stderr.decode(errors='replace').strip()}")
        names = done.stdout.decode(errors="surrogateescape").split("\0")
        paths = [tree / name for name in sorted(set(names)) if name]
    else:
        paths = sorted(tree.rglob("*"))
    # A tracked file may be deleted in the work tree; sockets and the like do not travel.
    return [path for path in paths if path.is_symlink() or path.is_file()]


def copy_files(tree: Path, files: list[Path], target: Path) -> None:
    """Copy with plain modes, so that any guest user can read what a strict umask made private."""
    target.mkdir(parents=True, exist_ok=True)
    for path in files:
        place = target / path.relative_to(tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)
        if not path.is_symlink():
            place.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def unpack_wheel(wheel: Path, job: Path) -> None:
    """What pip would install, without running pip under emulation."""
    site = job / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        for item in archive.infolist():
            mode = item.external_attr >> 16
            if not item.is_dir():
                (site / item.filename).chmod(0o755 if mode & 0o100 else 0o644)
    for data in site.glob("*.data"):
        for part, place in (("purelib", site), ("platlib", site), ("scripts", job / "bin"), ("data", job / "data")):
            if (data / part).exists():
                shutil.copytree(data / part, place, dirs_exist_ok=True)
        shutil.rmtree(data)
    for script in (job / "bin").glob("*"):  # the wheel format's way to say: the interpreter that it is installed for
        script.write_bytes(re.sub(rb"\A#!python[^\n]*", b"#!" + GUEST_PYTHON, script.read_bytes()))
        script.chmod(0o755)
    # Tests that run in the tree see the tree's package first: give it the compiled parts.
    for path in site.rglob("*"):
        place = job / "tree" / path.relative_to(site)
        if path.is_file() and not place.exists() and (job / "tree" / path.relative_to(site).parts[0]).is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def make_disk(content: Path, image: Path, size: str) -> None:
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0"]
    done = subprocess.run([*command, "-d", str(content), str(image), size], check=False, capture_output=True, text=True)
    if done.returncode:
        raise VmError(f"mke2fs could not make {image.name} of {size}: {done.stderr.strip()}")
