"""Wheels for the guest's Python, made on the host: the guest has no network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vmtier.arch import host_arch
from vmtier.cache import VM_DIR, cache_root, digest, discard_old, file_parts, locked, publish, say, scratch, tool
from vmtier.errors import VmError
from vmtier.tree import copy_files

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENTS = VM_DIR / "requirements.txt"
# Newest first; Debian 13 has glibc 2.41.
MANYLINUX = ("manylinux_2_39", "manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
# Files that cannot change what is in the wheel.
NOT_IN_WHEEL = ("tests", "docs", ".ci", ".github", "dev", "CHANGELOG.md", "CONTRIBUTING.md")


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
KEEP = 4


def third_party(python: str) -> Path:
    """The folder of wheels for requirements.txt and a Python version, downloaded when that file has changed."""
    arch = host_arch()
    name = "wheels-" + digest([REQUIREMENTS.read_bytes(), python.encode(), arch.wheel.encode()])
    target = cache_root() / name
    if target.exists():
        return target
    with locked("wheels"):
        if target.exists():
            return target
        say(f"downloading wheels for Python {python}")
        abi = "cp" + python.replace(".", "")
        tags = [option for tag in MANYLINUX for option in ("--platform", f"{tag}_{arch.wheel}")]
        with scratch("wheels") as folder:
            got = folder / "wheels"
            command = [
                *(*PIP, "download", "--only-binary", ":all:", "--dest", str(got), "--requirement", str(REQUIREMENTS)),
                *("--python-version", python, "--implementation", "cp"),
                *("--abi", abi, "--abi", "abi3", "--abi", "none", *tags),
            ]
            tool(command, folder, "downloading wheels")
            publish(got, target)
            discard_old("wheels-*", KEEP)
    return target


def own_wheel(tree: Path, files: list[Path]) -> Path | None:
    """The project's wheel built from a tree, cached by what can change it; None without a pyproject.toml."""
    if not (tree / "pyproject.toml").exists():
        return None
    inputs = [path for path in files if path.relative_to(tree).parts[0] not in NOT_IN_WHEEL]
    name = "own-" + digest([sys.version.encode(), *file_parts(tree, inputs)])
    target = cache_root() / name
    if not target.exists():
        with locked("own-wheel"):
            if not target.exists():
                build_own_wheel(tree, inputs, target)
    (wheel,) = target.glob("*.whl")
    return wheel


def build_own_wheel(tree: Path, inputs: list[Path], target: Path) -> None:
    say("building the project's wheel")
    with scratch("own") as folder:
        # A copy, so that the build leaves nothing in the checkout and sees nothing that is not in the hash.
        copy_files(tree, inputs, folder / "source")
        command = [*PIP, "wheel", "--no-deps", "--wheel-dir", str(folder / "out"), str(folder / "source")]
        tool(command, folder, "building the project's wheel")
        wheels = list((folder / "out").glob("*.whl"))
        if len(wheels) != 1:
            raise VmError(f"expected one wheel from the project, got {len(wheels)}")
        publish(folder / "out", target)
        discard_old("own-*", KEEP)
