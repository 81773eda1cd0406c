# SPDX-License-Identifier: Apache-2.0
"""A basic sandbox keeps the host's view and takes away privileges, writing and what would be left behind."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import as_ordinary_user, python
from sandboxes import LIMITS, said, say

import supervisor
from supervisor.errors import ConfigError

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]


def basic(code: str, *args: object, **options: Any) -> str:
    """What Python code printed in a basic sandbox."""
    options = {"limits": LIMITS, "capture_output": True, "text": True, **options}
    given = options.pop("sandbox", {"level": "basic"})
    options["sandbox"] = {**given, "bind": [sys.prefix]}  # a virtual environment may lie in /tmp
    return said(supervisor.run(python(code, *args), **options))


def test_no_privilege_is_left() -> None:
    status = say("grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '", "basic").splitlines()
    names = ("Inh", "Prm", "Eff", "Amb") if os.geteuid() else ("Inh", "Prm", "Eff", "Bnd", "Amb")
    assert {*(f"Cap{name}: {'0' * 16}" for name in names), "NoNewPrivs: 1"} <= set(status)


def test_root_without_capabilities_does_not_get_them_back() -> None:
    assert basic("import os\ntry: os.chroot('/tmp')\nexcept PermissionError: print('refused')") == "refused"


def test_tmp_is_private_and_has_a_size() -> None:
    Path("/tmp/ringfence-test-basic").touch()
    try:
        assert say("ls -A /tmp; echo x > /tmp/f && cat /tmp/f", "basic", cwd="/") == "x"
    finally:
        Path("/tmp/ringfence-test-basic").unlink()
    assert not Path("/tmp/f").exists()
    code = "import errno\ntry:\n    with open('/tmp/f', 'wb') as f: f.write(bytes(2 << 20))\nexcept OSError as e: print(errno.errorcode[e.errno])"
    assert basic(code, sandbox={"level": "basic", "tmp_size": "1M"}) == "ENOSPC"


@pytest.mark.requires("landlock")
def test_only_the_working_directory_and_what_is_bound_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "bound", "elsewhere"):
        (tmp_path / name).mkdir()
    root = Path("/var/tmp") / f"ringfence-test-{os.getpid()}"
    root.mkdir()
    try:
        for name in ("here", "bound", "elsewhere"):
            (root / name).mkdir()
        script = f"for d in here bound elsewhere; do echo x > {root}/$d/f 2>/dev/null && echo $d; done; cat {root}/here/f"
        found = say(script, {"level": "basic", "bind": [f"{root}/bound:rw"]}, cwd=root / "here")
        assert found.split() == ["here", "bound", "x"]
    finally:
        import shutil

        shutil.rmtree(root)


@pytest.mark.requires("landlock_scopes")
def test_nobody_outside_can_be_signalled_or_called() -> None:
    assert basic("import os, sys\ntry: os.kill(int(sys.argv[1]), 0)\nexcept PermissionError: print('refused')", os.getpid()) == "refused"
    name = f"\0ringfence-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"import socket\ntry: socket.socket(socket.AF_UNIX).connect({name!r})\nexcept PermissionError: print('refused')"
        assert basic(code) == "refused"


def test_a_working_directory_in_tmp_shows_through_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tmp_path.is_relative_to("/tmp"):
        pytest.skip("pytest's temporary directory is elsewhere")
    (tmp_path / "here").mkdir()
    (tmp_path / "beside").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert say("pwd; echo x > f; ls; ls ..", "basic").split() == [str(tmp_path / "here"), "f", "here"]
    assert (tmp_path / "here/f").read_text() == "x\n"


def test_the_environment_is_clean_and_cores_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert "SECRET" not in say("env", "basic")
    assert basic("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))") == "(1, 1)"


def test_landlock_can_be_left_out() -> None:
    outcome = supervisor.run(["/bin/true"], sandbox={"level": "basic", "landlock": False})
    assert outcome.verdict == "ok" and "Landlock" not in outcome.enforcement["sandbox"]


def test_a_job_without_sandbox_says_nothing_of_one() -> None:
    assert "sandbox" not in supervisor.run(["/bin/true"], sandbox="none").enforcement


@pytest.mark.requires("root")
def test_another_user_is_confined_as_well() -> None:
    assert say("id -u; id -G; touch /tmp/x && echo written", "basic", user=65534, group=65534, extra_groups=(), cwd="/").split() == [
        "65534",
        "65534",
        "written",
    ]


@pytest.mark.requires("ordinary")
@pytest.mark.parametrize("level", ["basic", "strict"])
def test_an_ordinary_user_can_have_both(level: str) -> None:
    code = """
import json, sys, supervisor
outcome = supervisor.run(["/bin/sh", "-c", "id -u; echo x > /tmp/f; cat /tmp/f"], sandbox=sys.argv[1], capture_output=True, limits={"wall_time_max": 30})
print(json.dumps([outcome.verdict, outcome.stdout.decode().split(), outcome.stderr.decode(), str(outcome.error)]))
"""
    done = as_ordinary_user(code, level)
    assert done.returncode == 0, done.stderr
    verdict, out, err, error = json.loads(done.stdout)
    assert (verdict, out[1:]) == ("ok", ["x"]), (out, err, error)
    assert out[0] == ("1000" if level == "strict" else str(65534 if os.geteuid() == 0 else os.geteuid()))


@pytest.mark.requires("root")
@pytest.mark.requires("landlock")
def test_root_cannot_write_to_a_disk_or_to_the_kernels_log() -> None:
    code = "import os, stat, sys\nfor name in os.listdir('/dev'):\n    path = '/dev/' + name\n    if stat.S_ISBLK(os.stat(path, follow_symlinks=False).st_mode) or name == 'kmsg':\n        try: os.open(path, os.O_WRONLY); print(path)\n        except OSError: pass"
    assert basic(code, cwd="/var") == ""


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict job has a world of its own and starts in it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="cwd: the working directory of this process was removed"):
        supervisor.run(["pwd"], sandbox="basic")
    assert say("pwd", "strict") == "/tmp"
