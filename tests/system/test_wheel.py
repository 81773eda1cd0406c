# SPDX-License-Identifier: Apache-2.0
"""The wheel in a strange environment: no compiler, no checkout, and supervisord as a neighbour."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.timeout(400), pytest.mark.requires("network")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "-w", "-o", str(folder), str(ROOT)], check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment; its ``bin``."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    return tmp_path / "venv" / "bin"


def install(environment: Path, *what: str) -> None:
    path = f"{environment}:/nonexistent"  # no compiler on it
    command: list[str | Path] = [environment / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *what]
    done = subprocess.run(command, env={**os.environ, "PATH": path, "CC": "/nonexistent/cc"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_one_for_every_python_and_holds_the_helper(wheel: Path) -> None:
    assert "cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["supervisor/ringfence-init"] & 0o111
    assert not [name for name in modes if name.startswith(("tests/", "native/"))]


def test_the_wheel_needs_no_compiler(wheel: Path, environment: Path) -> None:
    install(environment, str(wheel))
    script = "import supervisor; print(supervisor.run(['echo', 'hi'], capture_output=True, text=True).stdout, end='')"
    assert output(environment / "python", "-c", script) == "hi\n"
    assert output(environment / "ringfence", "run", "--", "echo", "there") == "there\n"
    output("env", "RINGFENCE_CGROUP=none", environment / "ringfence", "run", "--", "true")


@pytest.mark.parametrize("first", ["ringfence", "supervisord"])
def test_supervisord_and_ringfence_share_an_environment_in_either_order(wheel: Path, environment: Path, first: str) -> None:
    packages = [str(wheel), "supervisor==4.3.0", "setuptools<80"]
    for package in packages if first == "ringfence" else [packages[2], packages[1], packages[0]]:
        install(environment, package)
    assert output(environment / "supervisord", "--version").strip() == "4.3.0"
    assert output(environment / "ringfence", "run", "--", "echo", "both") == "both\n"
    doctor = subprocess.run([environment / "ringfence", "doctor"], capture_output=True, text=True, check=False)
    assert "supervisord shares the import package" in doctor.stdout
