# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of native code that reads what others write: ``python -m tests.fuzz.sanitized [TARGET...] [--seconds N] [--seed N]``.

Each target is a program of tests/fuzz/native with the native sources it is about, under AddressSanitizer and
UndefinedBehaviorSanitizer. It keeps no input: the other side is a thread or a kernel that is made up, and a find names the seed and the
round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.arguments import parse
from tests.fuzz.plans import FLAGS, HERE, NATIVE


class Program(NamedTuple):
    """A fuzzer: its source, the native sources, and what is included before these."""

    fuzzer: str
    sources: tuple[str, ...]
    before: str = ""


PROGRAMS: Final = {
    "rings": Program("ring_fuzz.c", ("ring.c", "ring_map.c"), "guarded_memory.h"),
    "packets": Program("packets_fuzz.c", ("packets.c",)),
    "denials": Program("denials_fuzz.c", ("denials.c",), "fake_listener.h"),
}


def build(name: str, folder: Path, native: Path = NATIVE) -> Path:
    """The fuzzer, with the sources of ``native``; raises CalledProcessError."""
    program, own = PROGRAMS[name], HERE / "native"
    command = [os.environ.get("CC", "cc"), *FLAGS, "-pthread", "-I", str(native), "-I", str(own), "-c"]
    before = ["-include", str(own / program.before)] if program.before else []
    made = []
    for source, options in ((own / program.fuzzer, []), *((native / source, before) for source in program.sources)):
        made.append(folder / f"{source.stem}.o")
        subprocess.run([*command, *options, str(source), "-o", str(made[-1])], check=True)
    subprocess.run([command[0], *FLAGS, "-pthread", *map(str, made), "-o", str(folder / name)], check=True)
    return folder / name


def run(program: Path, seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """One campaign."""
    return subprocess.run([str(program), str(seconds), str(seed)], capture_output=True, text=True, check=False)


def main(argv: list[str]) -> int:
    """Fuzz for so many seconds of processor time each; exit status 1 when something was found."""
    given = parse("tests.fuzz.sanitized", argv, PROGRAMS)
    failed = False
    for name in given.targets:
        print(f"{name}: {given.seconds:g} s, seed {given.seed}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            done = run(build(name, Path(folder)), given.seconds, given.seed)
        print(f"{name}: {done.stdout}", end="", flush=True)
        if done.returncode != 0:
            failed = True
            print(f"{name}: FOUND\n{done.stderr}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
