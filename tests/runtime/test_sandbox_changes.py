# SPDX-License-Identifier: Apache-2.0
"""An overlay with ``changes="list"``: the outcome names what the job did to it, whatever the job tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandboxes import LIMITS, run_strict, strict

import supervisor

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder of the host with files, folders and a link in it."""
    folder = tmp_path / "work"
    for name in ("inner/deep", "gone/inner", "again"):
        (folder / name).mkdir(parents=True)
    for name in ("file", "inner/deep/file", "gone/file", "again/old", "again/kept"):
        (folder / name).write_text("text\n")
    (folder / "link").symlink_to("/etc")
    return folder


def run(work: Path, script: str) -> supervisor.Outcome:
    overlay = supervisor.Overlay(source=str(work), target="/data", changes="list")
    sandbox = supervisor.Sandbox(level="strict", overlay=[overlay])
    outcome = supervisor.run(["/bin/sh", "-ec", "cd /data; " + script], sandbox=sandbox, limits=LIMITS, capture_output=True, text=True)
    assert outcome.verdict == "ok", (outcome.summary(), outcome.stderr)
    return outcome


def changed(work: Path, script: str) -> set[tuple[str, str, str]]:
    outcome = run(work, script)
    assert outcome.changes is not None and outcome.warnings == ()
    assert list(outcome.changes) == sorted(outcome.changes, key=lambda change: change.path)
    return {(change.kind, change.path, change.file_type) for change in outcome.changes}


def test_what_was_added_changed_and_deleted_is_named(work: Path) -> None:
    script = (
        "echo x > inner/deep/new; echo x >> inner/deep/file; rm file; rm -r gone; mkdir more; ln -s /etc/shadow more/shadow; mkfifo fifo"
    )
    assert changed(work, script) == {
        ("added", "/data/inner/deep/new", "file"),
        ("changed", "/data/inner/deep/file", "file"),
        ("deleted", "/data/file", "file"),
        ("deleted", "/data/gone", "directory"),
        ("added", "/data/more", "directory"),
        ("added", "/data/more/shadow", "link"),
        ("added", "/data/fifo", "other"),
    }
    assert sorted(os.listdir(work)) == ["again", "file", "gone", "inner", "link"]


def test_a_job_that_changes_nothing_has_an_empty_list_and_one_that_was_not_asked_has_none(work: Path) -> None:
    assert run(work, "cat inner/deep/file; touch f; rm f").changes == ()
    assert supervisor.run(["/bin/true"], sandbox="strict").changes is None


def test_a_directory_made_anew_hides_what_the_host_has_there(work: Path) -> None:
    """overlayfs calls it opaque."""
    script = "rm -r again; mkdir again; echo x > again/kept"
    assert changed(work, script) == {("deleted", "/data/again/old", "file"), ("changed", "/data/again/kept", "file")}


def test_a_mode_is_a_change_of_a_file_and_of_a_directory(work: Path) -> None:
    assert changed(work, "chmod 0500 inner; chmod 0600 file") == {
        ("changed", "/data/inner", "directory"),
        ("changed", "/data/file", "file"),
    }


def test_what_the_job_made_unreadable_is_listed_all_the_same(work: Path) -> None:
    script = "mkdir -p a/b; echo x > a/b/c; chmod 0 a/b/c a/b a; chmod 0 ."
    assert changed(work, script) == {
        ("added", "/data/a", "directory"),
        ("added", "/data/a/b", "directory"),
        ("added", "/data/a/b/c", "file"),
    }


def test_no_link_is_followed_on_the_host_or_in_the_changes(work: Path) -> None:
    """Neither the host's link, in whose place the job puts a directory, nor one that the job makes leads out."""
    script = "rm link; mkdir link; echo x > link/passwd; ln -s / out"
    assert changed(work, script) == {
        ("changed", "/data/link", "directory"),
        ("added", "/data/link/passwd", "file"),
        ("added", "/data/out", "link"),
    }


def test_a_flood_of_changes_is_cut_and_said(work: Path) -> None:
    code = "import os\nfor n in range(5000): os.mkdir(f'/data/{n}')"
    overlay = supervisor.Overlay(source=str(work), target="/data", changes="list")
    outcome = run_strict(code, sandbox=strict(overlay=[overlay]))
    assert outcome.changes is not None and len(outcome.changes) == 4096
    assert any("more than 4096" in warning for warning in outcome.warnings)


def test_a_depth_without_end_is_cut_and_said(work: Path) -> None:
    code = "import os\nos.chdir('/data')\nfor n in range(2000):\n    os.mkdir('d'); os.chdir('d')"
    overlay = supervisor.Overlay(source=str(work), target="/data", changes="list")
    outcome = run_strict(code, sandbox=strict(overlay=[overlay]))
    assert outcome.changes is not None and len(outcome.changes) == 65
    assert any("deeper than 64" in warning for warning in outcome.warnings)


def test_only_the_overlays_that_ask_are_listed(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    overlays = [{"source": str(other), "target": "/a"}, {"source": str(work), "target": "/b/c", "changes": "list"}]
    sandbox = {"level": "strict", "overlay": overlays}
    outcome = supervisor.run(["/bin/sh", "-c", "echo x > /a/f; echo x > /b/c/f"], sandbox=sandbox, limits=LIMITS)
    assert [change.path for change in outcome.changes or ()] == ["/b/c/f"]


def test_a_job_that_is_killed_has_its_changes_listed(work: Path) -> None:
    overlay = supervisor.Overlay(source=str(work), target="/data", changes="list")
    sandbox = supervisor.Sandbox(level="strict", overlay=[overlay])
    limits = {"wall_time_max": 0.5}
    outcome = supervisor.run(["/bin/sh", "-c", "echo x > /data/f; exec sleep 100"], sandbox=sandbox, limits=limits)
    assert outcome.verdict == "wall_limit"
    assert [(change.path, change.size_bytes) for change in outcome.changes or ()] == [("/data/f", 2)]


def test_a_name_that_is_no_text_is_json_all_the_same(work: Path) -> None:
    outcome = run(work, "printf x > \"$(printf 'a\\377b')\"")
    assert [change.path for change in outcome.changes or ()] == ["/data/a\udcffb"]
    assert outcome.to_dict()["changes"][0]["path"] == "/data/a\\xffb"
