# SPDX-License-Identifier: Apache-2.0
"""Builds the contenders written in C and Rust into a cache outside the checkout, once per version of their source."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench.model import NotHere

HERE = Path(__file__).resolve().parent
DEBIAN_CRATES = Path("/usr/share/cargo/registry")
#: Programs of the kernel's part alone: no C library, so next to nothing of the child's own start.
BARE = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie")


def cache() -> Path:
    """RINGFENCE_BENCH_CACHE, or a folder in the user's cache, or one in /tmp where there is no home."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    choices = [os.environ.get("RINGFENCE_BENCH_CACHE"), f"{home}/ringfence-bench", f"{tempfile.gettempdir()}/ringfence-bench-{os.getuid()}"]
    for choice in filter(None, choices):
        try:
            os.makedirs(choice, mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(choice, os.W_OK):
            return Path(choice)
    raise NotHere("no folder to build in: set RINGFENCE_BENCH_CACHE")


@functools.cache
def c_program(name: str, *flags: str) -> str:
    """Path of ``c/NAME.c``, built. Raises :class:`NotHere` without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotHere("no C compiler (cc)")
    sources = [*sorted((HERE / "c").glob("*.h")), HERE / "c" / f"{name}.c"]
    target = cache() / f"{name}-{_mark(sources, *flags)}"
    if not target.exists():
        fresh = target.with_suffix(f".{os.getpid()}")
        options = ("-O2", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", *flags)
        _run("cc", [compiler, *options, "-o", str(fresh), str(sources[-1]), "-lpthread"], HERE)
        fresh.replace(target)
    return str(target)


@functools.cache
def tokio_program() -> str:
    """Path of the tokio contender, built from the distribution's crates. Raises :class:`NotHere` without them."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise NotHere("no cargo")
    if not any(DEBIAN_CRATES.glob("tokio-[0-9]*")):
        raise NotHere(f"no tokio in {DEBIAN_CRATES} (Debian: librust-tokio-dev)")
    source = HERE / "tokio"
    place = cache() / f"tokio-{_mark([source / 'Cargo.toml', source / 'src' / 'main.rs'])}"
    program = place / "target" / "release" / "tokio-bench"
    if not program.exists():
        shutil.copytree(source, place, dirs_exist_ok=True)
        replaced = ("--config", 'source.crates-io.replace-with="deb"', "--config", f'source.deb.directory="{DEBIAN_CRATES}"')
        _run("cargo", [cargo, "build", "--release", "--offline", "--target-dir", str(place / "target"), *replaced], place)
    return str(program)


def bare_true() -> str:
    """A program that only exits."""
    return c_program("bare_true", *BARE)


def exit_child() -> str:
    """A program that waits for a byte and says when it leaves."""
    return c_program("exit_child", *BARE)


def restart_child() -> str:
    """A program that says when it has begun and waits to be killed."""
    return c_program("restart_child", *BARE)


def _mark(sources: list[Path], *flags: str) -> str:
    digest = hashlib.sha256(repr(flags).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _run(tool: str, argv: list[str], place: Path) -> None:
    done = subprocess.run(argv, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{tool} failed: {' '.join(done.stderr.split())[-300:]}")
