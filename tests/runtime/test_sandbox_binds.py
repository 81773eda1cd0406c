# SPDX-License-Identifier: Apache-2.0
"""What of the host a strict sandbox shows, and the clear refusal of what cannot be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandboxes import LIMITS, said, say

import supervisor

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A folder of the host with a file and a folder in it."""
    folder = tmp_path / "shown"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_text("text\n")
    return folder


def test_a_bind_is_read_only_unless_asked_otherwise(shown: Path) -> None:
    script = "cat /data/file; echo x > /data/new || echo refused"
    assert say(script, {"level": "strict", "bind": [f"{shown}:/data"]}).splitlines() == ["text", "refused"]
    assert not (shown / "new").exists()


def test_a_writable_bind_reaches_the_host(shown: Path) -> None:
    say("echo x > /data/new", {"level": "strict", "bind": [f"{shown}:/data:rw"]})
    assert (shown / "new").read_text() == "x\n"


def test_a_bind_without_target_keeps_its_place(shown: Path) -> None:
    assert say(f"cat {shown}/file", {"level": "strict", "bind": [str(shown)]}) == "text"


def test_a_single_file_can_be_bound(shown: Path) -> None:
    assert say("cat /etc/motd", {"level": "strict", "bind": [f"{shown}/file:/etc/motd"]}) == "text"


def test_binds_lie_within_each_other(shown: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "deep").write_text("deep\n")
    binds = [f"{other}:/data/inner:rw", f"{shown}:/data"]
    script = "cat /data/inner/deep; echo x > /data/inner/new; echo x > /data/new || echo refused"
    assert say(script, {"level": "strict", "bind": binds}).splitlines() == ["deep", "refused"]
    assert (other / "new").exists() and not list((shown / "inner").iterdir())


def test_a_system_directory_can_be_replaced(shown: Path) -> None:
    assert say("ls /etc", {"level": "strict", "bind": [f"{shown}:/etc"]}).split() == ["file", "inner"]


def test_devices_and_set_user_id_programs_of_a_bind_are_dead(tmp_path: Path) -> None:
    line = say("cat /proc/self/mountinfo", {"level": "strict", "bind": [f"{tmp_path}:/data:rw"]})
    flags = next(row.split()[5] for row in line.splitlines() if row.split()[4] == "/data")
    assert {"rw", "nosuid", "nodev"} <= set(flags.split(","))


def test_the_job_begins_where_we_are_when_that_is_shown(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shown / "inner")
    assert say("pwd", {"level": "strict", "bind": [str(shown)]}) == str(shown / "inner")
    assert say("pwd") == "/tmp"


def test_it_begins_elsewhere_when_something_else_is_shown_in_the_place_where_we_are(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown / "inner" / "deep").mkdir()
    (shown / "other").mkdir()
    monkeypatch.chdir(shown / "inner" / "deep")
    assert say("pwd", {"level": "strict", "bind": [f"{shown / 'other'}:{shown}"]}) == "/tmp"
    assert (
        say("pwd", {"level": "strict", "bind": [str(shown)], "overlay": [{"source": str(shown / "other"), "target": str(shown / "inner")}]})
        == "/tmp"
    )


REFUSALS = {
    "a missing source": ("{tmp}/nothing:/data", "bind", "the source does not exist"),
    "a target through a link of the system": ("{tmp}:/bin/x", "target", "symbolic link"),
    "a target that would have to be made on the host": ("{tmp}:/usr/ringfence-test", "target", "must exist"),
    "a folder on a file": ("{tmp}:/etc/passwd/x", "target", "file"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_bound_is_told(what: str, tmp_path: Path) -> None:
    bind, stage, reason = REFUSALS[what]
    mounts = Path("/proc/self/mountinfo").read_text()
    outcome = supervisor.run(["/bin/true"], sandbox={"level": "strict", "bind": [bind.format(tmp=tmp_path)]}, limits=LIMITS)
    assert outcome.verdict == "sandbox_error" and outcome.exit_status() == 125
    assert outcome.error is not None and outcome.error.stage == stage
    assert reason in outcome.error.message and "\n" not in outcome.error.message
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not os.path.exists("/usr/ringfence-test")


def test_a_target_that_a_job_made_a_link_is_not_followed(shown: Path, tmp_path: Path) -> None:
    """An earlier job with write access to a bind puts a link where a later one shall have a mount point."""
    (shown / "trap").symlink_to("/tmp")
    binds = [str(shown) + ":/data", f"{tmp_path}:/data/trap"]
    outcome = supervisor.run(["/bin/true"], sandbox={"level": "strict", "bind": binds}, limits=LIMITS)
    assert outcome.verdict == "sandbox_error" and outcome.error is not None and outcome.error.stage == "target"


def test_a_command_that_is_not_shown_is_not_found(shown: Path) -> None:
    program = shown / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    outcome = supervisor.run([str(program)], sandbox="strict", limits=LIMITS)
    assert (outcome.verdict, outcome.exit_status()) == ("start_failed", 127)
    assert outcome.error is not None and "not found in the sandbox" in outcome.error.message
    assert said(supervisor.run([str(program)], sandbox={"level": "strict", "bind": [str(shown)]}, capture_output=True, text=True)) == "ran"


# overlays


def test_an_overlay_can_be_changed_and_the_host_is_not(shown: Path) -> None:
    script = "cd /data && echo new > file && rm -r inner && echo x > more && cat file && ls"
    assert say(script, {"level": "strict", "overlay": [{"source": str(shown), "target": "/data"}]}).split() == ["new", "file", "more"]
    assert sorted(path.name for path in shown.iterdir()) == ["file", "inner"] and (shown / "file").read_text() == "text\n"


def test_an_overlays_changes_are_hidden_from_the_job(shown: Path) -> None:
    assert say("ls /.changes 2>/dev/null || echo hidden", {"level": "strict", "overlay": [f"{shown}"]}) == "hidden"


def test_an_overlay_can_keep_its_changes(shown: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    sandbox = {"level": "strict", "overlay": [{"source": str(shown), "target": "/data", "changes": "keep", "upper": str(upper)}]}
    say("echo new > /data/more", sandbox)
    assert (upper / "changes/more").read_text() == "new\n" and not (shown / "more").exists()
    assert say("cat /data/more", sandbox) == "new"


@pytest.mark.parametrize("name", ["/".join(["long" * 60] * 4), "a:b\\c,d=e f"])
def test_an_overlays_layers_may_have_any_name_that_a_directory_may_have(name: str, tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower" / name, tmp_path / "upper" / name
    lower.mkdir(parents=True)
    (lower / "file").write_text("text\n")
    sandbox = {"level": "strict", "overlay": [{"source": str(lower), "target": "/data", "changes": "keep", "upper": str(upper)}]}
    assert say("cat /data/file && echo new > /data/more", sandbox) == "text"
    assert (upper / "changes/more").read_text() == "new\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "chmod 4755 /data/file",
        "chmod g+s /data/file",
        "install -m 4755 /data/file /data/made",
        "mkdir -m 2755 /data/made",
        "mknod -m 4755 /data/made p",
        "cp /data/file /data/made && chmod 6755 /data/made",
    ],
)
def test_no_file_of_a_writable_bind_gets_a_set_id_bit(attempt: str, shown: Path) -> None:
    """On the host it would be a way to the rights of whoever owns it outside, which may be root."""
    say(f"{attempt} 2>/dev/null; true", {"level": "strict", "bind": [f"{shown}:/data:rw"]})
    assert not [path for path in (shown, *shown.rglob("*")) if path.lstat().st_mode & 0o6000]


def test_ordinary_modes_are_as_free_as_before(shown: Path) -> None:
    say("chmod 640 /data/file; mkdir -m 711 /data/made; umask 077; echo x > /data/new", {"level": "strict", "bind": [f"{shown}:/data:rw"]})
    assert [(shown / name).stat().st_mode & 0o7777 for name in ("file", "made", "new")] == [0o640, 0o711, 0o600]
