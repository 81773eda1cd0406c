# SPDX-License-Identifier: Apache-2.0
"""Policy files on disk: the places and their order, whom a file may belong to, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import ConfigError, load_policy
from supervisor.kernel.policy_files import FILES_MAX, PolicyReader, place_folder, place_paths
from supervisor.model.policy.file import FILE_MAX_BYTES

ANOTHER = 12345  # a user number that is neither root's nor ours


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder in place of the system's and the user's, and a working directory beside it."""
    (tmp_path / "config" / "policy.d").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("RINGFENCE_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def refused(reference: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_policy(str(reference))
    return str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = put(tmp_path / "a.toml", "\ufeff[profile.a]\r\ntasks_max = 4\r\n")
    assert load_policy(str(path)).limits.tasks_max == 4


def test_the_library_is_there_whatever_else_is(home: Path) -> None:
    judge = load_policy("judge")
    assert judge.limits.cpu_time_max == 2_000_000_000
    assert judge.sandbox is not None and judge.sandbox.level == "strict"
    for name in ("ci", "agent", "batch", "service", "untrusted-strict"):
        assert load_policy(name).name == name


def test_drop_ins_are_read_in_the_order_of_their_names_and_nothing_else_is(home: Path) -> None:
    folder = home / "config" / "policy.d"
    for name in ("20-b.toml", "10-a.toml"):
        put(folder / name, f"[profile.x{name[0]}]\n")
    put(folder / ".hidden.toml", "[")
    put(folder / "notes.txt", "[")
    assert [os.path.basename(path) for path in place_paths("system")] == ["10-a.toml", "20-b.toml"]


def test_a_drop_in_extends_the_librarys_profile_of_its_name(home: Path) -> None:
    put(home / "config" / "policy.d" / "judge.toml", '[profile.judge]\nextends = "judge"\nmemory_max = "1G"\n')
    policy = load_policy("judge")
    assert policy.limits.memory_max == 1 << 30
    assert [link.rpartition("/")[2] for link in policy.chain] == ["judge.toml#judge"] * 2


def test_a_projects_file_is_found_from_anywhere_in_its_checkout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / "work" / ".ringfence.toml", "[profile.mine]\ntasks_max = 3\n")
    (home / "work" / ".git").mkdir()
    (home / "work" / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(home / "work" / "deep" / "down")
    assert load_policy("mine").limits.tasks_max == 3


def test_outside_of_a_checkout_only_the_working_directory_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / "work" / ".ringfence.toml", "[profile.mine]\n")
    (home / "work" / "deep").mkdir()
    assert load_policy("mine").name == "mine"
    monkeypatch.chdir(home / "work" / "deep")
    assert "there is no profile 'mine'" in refused("mine")


def test_a_project_cannot_redefine_a_profile_of_the_library(home: Path) -> None:
    put(home / "work" / ".ringfence.toml", '[profile.judge]\nmemory_max = "1T"\n')
    assert "a project cannot redefine it" in refused("judge")


def test_a_gone_working_directory_has_no_project(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_policy("judge").name == "judge"


def test_a_file_is_named_by_its_path_even_without_a_suffix(home: Path) -> None:
    path = put(home / "work" / "limits", "[profile.x]\ntasks_max = 3\n")
    assert (
        load_policy(str(path)).limits.tasks_max == load_policy("limits").limits.tasks_max == load_policy("limits#x").limits.tasks_max == 3
    )


def test_a_file_extends_one_beside_it_wherever_the_caller_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / "files" / "base.toml", "[profile.base]\ntasks_max = 3\n")
    path = put(home / "files" / "x.toml", '[profile.x]\nextends = "base.toml#base"\n')
    monkeypatch.chdir("/")
    assert load_policy(str(path)).limits.tasks_max == 3


def test_one_file_under_two_names_is_one_file(home: Path) -> None:
    """A circle through a link is seen as a circle, and a drop-in that is named by its path extends what lies behind it."""
    path = put(home / "work" / "a.toml", '[profile.x]\nextends = "b.toml#x"\n')
    (home / "work" / "b.toml").symlink_to(path)
    assert "a circle: x -> x" in refused(path)
    drop_in = put(home / "config" / "policy.d" / "judge.toml", '[profile.judge]\nextends = "judge"\ntasks_max = 1\n')
    assert load_policy(str(drop_in)).limits.given().keys() == load_policy("judge").limits.given().keys()


def test_what_is_no_file_is_refused_at_once(home: Path) -> None:
    """A FIFO would hang, a device would fill the memory."""
    fifo, big = home / "fifo.toml", home / "big.toml"
    os.mkfifo(fifo)
    with big.open("wb") as file:
        file.truncate(100 << 20)
    for path, words in (
        (fifo, "is not a regular file"),
        (home, "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (big, f"larger than {FILE_MAX_BYTES} bytes, which no policy needs"),
        (home / "gone.toml", "No such file or directory"),
    ):
        assert refused(path) == f"{path}: {words}"


def test_a_kernel_file_without_a_size_is_bounded_too() -> None:
    assert "not valid TOML" in refused("/proc/self/status")


@pytest.mark.requires("root")
def test_root_takes_no_limits_from_somebody_elses_file(home: Path) -> None:
    path = put(home / "x.toml", "[profile.x]\n")
    os.chown(path, ANOTHER, 0)
    assert refused(path) == f"{path}: belongs to user {ANOTHER}, who could loosen what root enforces; make it root's (chown root)"
    os.chown(path, 0, 0)
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert refused(path) == f"{path}: can be written by others than root (mode {mode:04o}); take that away (chmod go-w)"
    path.chmod(0o644)
    assert load_policy(str(path)).name == "x"


@pytest.mark.requires("root")
def test_root_looks_at_what_a_file_extends_and_at_the_folders_of_drop_ins(home: Path) -> None:
    base = put(home / "base.toml", "[profile.base]\n")
    path = put(home / "x.toml", '[profile.x]\nextends = "base.toml"\n')
    os.chown(base, ANOTHER, 0)
    assert f"{path}:2: extends: {base}: belongs to user {ANOTHER}" in refused(path)
    folder = home / "config" / "policy.d"
    put(folder / "y.toml", "[profile.y]\n")
    os.chown(folder, ANOTHER, 0)
    assert f"{folder}: belongs to user {ANOTHER}" in refused("y")


@pytest.mark.requires("root")
def test_root_takes_no_limits_from_a_folder_in_which_somebody_else_could_swap_the_file(home: Path) -> None:
    path = put(home / "a" / "b" / "x.toml", "[profile.x]\n")
    swapped = "who could put another file in its place"
    for folder in (home / "a", home / "a" / "b"):
        os.chown(folder, ANOTHER, 0)
        assert refused(path) == f"{path}: its folder {folder} belongs to user {ANOTHER}, {swapped}; keep it in a folder of root's"
        os.chown(folder, 0, 0)
        for mode in (0o775, 0o757):
            folder.chmod(mode)
            expected = (
                f"{path}: its folder {folder} can be written by others than root (mode {mode:04o}), {swapped}; take that away (chmod go-w)"
            )
            assert refused(path) == expected
            folder.chmod(0o1777)
            assert load_policy(str(path)).name == "x"  # as in /tmp: nobody else can rename what is root's
        folder.chmod(0o755)


@pytest.mark.requires("root")
def test_root_follows_a_link_to_a_policy_only_where_nobody_else_could_turn_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(home / "real" / "x.toml", "[profile.x]\n")
    (home / "way").mkdir()
    link = home / "way" / "link"
    link.symlink_to("../real")
    assert load_policy(str(link / "x.toml")).name == "x"
    os.lchown(link, ANOTHER, 0)
    assert f"the link {link} on the way to it belongs to user {ANOTHER}" in refused(link / "x.toml")
    os.lchown(link, 0, 0)
    path.parent.chmod(0o777)  # behind the link
    assert f"its folder {path.parent} can be written by others" in refused(link / "x.toml")
    monkeypatch.chdir(home / "way")
    assert f"its folder {path.parent} can be written by others" in refused("../way/link/x.toml")
    path.parent.chmod(0o755)
    assert load_policy("../way/link/x.toml").name == "x"
    (home / "round").symlink_to("round")
    assert "Too many levels of symbolic links" in refused(home / "round" / "x.toml")


@pytest.fixture
def as_user(home: Path) -> Iterator[None]:
    """The test runs with an ordinary user's effective number."""
    for path in (home, *home.parents):  # pytest's own folders are for root alone
        if "pytest-" in str(path):
            path.chmod(0o755)
    os.seteuid(ANOTHER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.requires("root")
def test_a_user_takes_a_found_file_only_from_himself_or_root(home: Path, as_user: None) -> None:
    os.seteuid(0)
    path = put(home / "work" / ".ringfence.toml", "[profile.mine]\n")
    os.chown(path, ANOTHER + 1, 0)
    os.seteuid(ANOTHER)
    assert "neither you nor root, and was found, not named" in refused("mine")
    assert load_policy(str(path)).name == "mine"
    os.seteuid(0)
    os.chown(path, ANOTHER, 0)
    path.chmod(0o646)
    os.seteuid(ANOTHER)
    assert "can be written by everybody" in refused("mine")


@pytest.mark.requires("root")
def test_an_ordinary_user_has_a_place_of_his_own(home: Path, as_user: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGFENCE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert place_folder("user") == f"{home}/xdg/ringfence/policy.d"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(home))
    assert place_folder("user") == f"{home}/.config/ringfence/policy.d"
    os.seteuid(0)
    assert place_folder("user") == ""
    assert place_folder("system") == "/etc/ringfence/policy.d"


def test_a_configuration_that_is_a_file_has_no_drop_ins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_CONFIG", str(put(home / "services.toml", "")))
    assert place_folder("system") == place_folder("user") == ""


def test_the_places_hold_a_bounded_number_of_files(home: Path) -> None:
    for number in range(FILES_MAX + 1):
        put(home / "config" / "policy.d" / f"{number:04}.toml", f"[profile.x{number}]\n")
    assert f"more than {FILES_MAX} policy files" in refused("judge")


def test_checking_tells_everything_about_a_file(home: Path) -> None:
    path = put(home / "x.toml", '[profile.x]\nmemory_mx = 1\nextends = "judg"\n[profile.y]\nextends = "x"\n')
    file, problems = PolicyReader().check(str(path))
    assert list(file.profiles) == ["x", "y"]
    assert [str(problem) for problem in problems] == [
        f"{path}:2: memory_mx: unknown key; did you mean 'memory_max'?",
        f"{path}:3: extends: there is no profile 'judg'; did you mean 'judge'?",
    ]
