# SPDX-License-Identifier: Apache-2.0
"""Programs of claims in C, built with the native sources under the compiler's sanitizers; each claim runs as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
FLAGS = "-std=gnu11 -g -O1 -pthread -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Werror -fno-omit-frame-pointer".split()
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREADS = ("-fsanitize=thread",)
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def claims_of(source: str) -> list[str]:
    """The names in a claims file's list."""
    return re.findall(r"^    X\((\w+)\)", (HERE / source).read_text(), re.MULTILINE)


def build(folder: Path, sanitizers: Iterable[str], claims: str, sources: Iterable[str], bare: Iterable[str] = ()) -> Path:
    """The claims file with these native sources, all warnings errors; ``bare`` ones go without sanitizers."""
    compiler = os.environ.get("CC", "cc")
    made = folder / "claims"
    objects = {str(NATIVE / name): str(folder / f"{name}.o") for name in bare}
    for source, target in objects.items():
        _compile([compiler, *FLAGS, "-I", str(NATIVE), "-c", source, "-o", target])
    files = [str(HERE / claims), *[str(NATIVE / name) for name in sources], *objects.values()]
    _compile([compiler, *FLAGS, *sanitizers, "-I", str(NATIVE), *files, "-o", str(made)])
    return made


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def assert_holds(program: Path, claim: str) -> None:
    """The claim's process ends well and says nothing."""
    done = subprocess.run([str(program), claim], capture_output=True, text=True, check=False, env={**os.environ, **OPTIONS}, timeout=55)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
