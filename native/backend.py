# SPDX-License-Identifier: Apache-2.0
"""PEP 517 build backend: compile the init helper and the cffi source, then let setuptools do the rest.

setuptools alone cannot build a static executable into a package, and cffi's own hook needs a setup.py;
these few lines need neither.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import build_meta as _setuptools
from setuptools.build_meta import (  # noqa: F401 - the rest of the hooks, unchanged
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parent.parent
HELPER = ROOT / "supervisor" / "ringfence-init"
HELPER_SOURCES = ("init.c", "child.c", "processor.c", "sandbox.c", "mounts.c", "landlock.c", "seccomp.c", "handover.c", "plan.c")
HELPER_FLAGS = (
    "-O2 -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -ffreestanding -fno-stack-protector -fno-pic -fcf-protection=none "
    "-ffunction-sections -static -nostdlib -nostartfiles -Wl,--gc-sections,--build-id=none -Wl,-z,noexecstack -s"
).split()

if not sys.platform.startswith("linux"):
    raise SystemExit("Ringfence is for Linux only")


def build_helper() -> None:
    """Compile ``supervisor/ringfence-init``; raises CalledProcessError with the compiler's words on stderr."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = [flag for flag in HELPER_FLAGS if flag != "-fcf-protection=none" or os.uname().machine == "x86_64"]
    extra = shlex.split(os.environ.get("RINGFENCE_CFLAGS", "")) if "sanitize" not in os.environ.get("RINGFENCE_CFLAGS", "") else []
    sources = [str(ROOT / "native" / name) for name in HELPER_SOURCES]
    subprocess.run([*compiler, *flags, *extra, "-o", str(HELPER), *sources], check=True)


def generate_source() -> None:
    """Write ``build/_native.c``, which pyproject.toml names as the extension's source."""
    sys.path.insert(0, str(ROOT / "native"))
    from build_native import ffibuilder  # needs cffi, which only building requires

    (ROOT / "build").mkdir(exist_ok=True)
    ffibuilder.emit_c_code(str(ROOT / "build" / "_native.c"))


def prepare() -> None:
    build_helper()
    generate_source()


def get_requires_for_build_wheel(config_settings: dict[str, str] | None = None) -> list[str]:
    return ["cffi>=2.0", *_setuptools.get_requires_for_build_wheel(config_settings)]


get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None) -> str:
    prepare()
    return str(_setuptools.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None) -> str:
    prepare()
    return str(_setuptools.build_editable(wheel_directory, {"editable_mode": "compat", **(config_settings or {})}, metadata_directory))


if __name__ == "__main__":  # ./dev: build in place, with the flags in the environment
    prepare()
