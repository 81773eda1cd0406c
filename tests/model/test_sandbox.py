# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.sandbox`` claims: a sandbox is sound and complete, or every problem with it is said at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import Counted

from supervisor.errors import ConfigError
from supervisor.model.sandbox import LEVELS, NO_SANDBOX, Bind, Overlay, Sandbox, parse_bind, parse_sandbox
from supervisor.model.value import field_names, replace, set_field

names = st.text(st.characters(exclude_characters="/\0:", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
targets = paths.filter(lambda path: path.split("/")[1] not in ("proc", "dev"))


def problems(**given: Any) -> list[str]:
    """What is wrong with a sandbox; it must be wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_sandbox(given)
    assert all(problem and "\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def test_strict_has_no_network_a_filter_and_ids_of_its_own() -> None:
    strict = Sandbox(level="strict")
    assert (strict.network, strict.syscalls, strict.uid, strict.gid) == ("none", "default", 1000, 1000)
    assert strict.private_tmp and strict.clear_env


def test_basic_keeps_the_hosts_view() -> None:
    basic = Sandbox(level="basic")
    assert (basic.network, basic.syscalls, basic.uid, basic.gid) == ("host", "none", None, None)
    assert basic.private_tmp and basic.clear_env


def test_no_sandbox_takes_nothing_away() -> None:
    assert parse_sandbox(None) == parse_sandbox("none") == NO_SANDBOX
    assert not (NO_SANDBOX.private_tmp or NO_SANDBOX.clear_env or NO_SANDBOX.landlock)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_built_is_read_again(level: str) -> None:
    made = Sandbox(level=level)
    assert parse_sandbox(made) is made
    assert parse_sandbox({"level": level}) == made == parse_sandbox(level)


def test_sizes_are_read_as_people_write_them() -> None:
    assert Sandbox(level="strict", tmp_size="1M", shm_size=8192).tmp_size == 1 << 20


def test_every_problem_is_reported_at_once() -> None:
    found = problems(level="basic", network="none", bidn=1, tmp_size="1", bind=["x"], hostname="a b", uid=5)
    assert [part for part in ("bidn", "tmp_size", "'x'", "hostname", "uid", "network") if not any(part in line for line in found)] == []


def test_what_only_strict_can_have_is_refused_elsewhere() -> None:
    assert problems(level="basic", overlay=["/srv"]) == ["sandbox: overlay: needs the level strict"]
    assert problems(bind=["/srv"]) == ["sandbox: bind: needs the level basic or strict"]
    assert "another place" in problems(level="basic", bind=["/a:/b"])[0]


def test_a_target_is_used_once() -> None:
    assert "more than one" in problems(level="strict", bind=["/a:/t", "/b:/t"])[0]
    assert "more than one" in problems(level="strict", bind=["/a:/t"], overlay=[{"source": "/b", "target": "/t"}])[0]


def test_what_lies_above_is_put_first() -> None:
    made = Sandbox(level="strict", bind=["/a:/t/u/v", "/b:/t", "/c:/t/u"])
    assert [bind.target for bind in made.bind] == ["/t", "/t/u", "/t/u/v"]


@pytest.mark.parametrize("target", ["/a/../b", "/..", "b", "/", "/.", "/proc", "/proc/1", "/dev/null", "/a\0b"])
def test_a_target_that_escapes_or_covers_our_own_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        Bind(source="/a", target=target)


def test_keeping_changes_needs_a_place_for_them() -> None:
    assert Overlay(source="/a", changes="keep", upper="/b").upper == "/b"
    for wrong in ({"changes": "keep"}, {"upper": "/b"}, {"changes": "lose"}):
        with pytest.raises(ConfigError):
            Overlay(source="/a", **wrong)


@given(paths, targets, st.sampled_from(["ro", "rw"]))
def test_a_bind_is_read_as_it_is_written(source: str, target: str, mode: str) -> None:
    assert parse_bind(f"{source}:{target}:{mode}") == Bind(source=source, target=target, mode=mode)


@given(targets)
def test_a_bind_without_target_and_mode_is_read_only_at_its_own_place(source: str) -> None:
    made = parse_bind(source)
    assert (made.target, made.mode) == (made.source, "ro")


def test_a_relative_source_starts_at_the_base() -> None:
    assert parse_bind("../data:/d", base="/home/me").source == "/home/data"
    assert parse_bind("./a//b:/d", base="/").source == "/a/b"


@given(st.text(max_size=40))
def test_any_text_is_a_bind_or_refused(text: str) -> None:
    try:
        bind = parse_bind(text)
    except ConfigError:
        return
    assert bind.target.startswith("/") and ".." not in bind.target.split("/")


@given(
    st.dictionaries(
        st.sampled_from([*field_names(Sandbox), "other"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2),
    )
)
def test_any_table_is_a_sandbox_or_refused(table: dict[str, Any]) -> None:
    try:
        made = parse_sandbox(table)
    except ConfigError as error:
        assert error.problems
        return
    assert replace(made) == made


@pytest.mark.parametrize("path", ["/\ud800", "/a\0", "/" + "\u00fc" * 2048])
def test_a_path_that_the_kernel_cannot_take_is_refused(path: str) -> None:
    for fields in ({"source": path}, {"source": "/a", "target": path}):
        with pytest.raises(ConfigError, match="no path the kernel can take"):
            Bind(**fields)


def test_bytes_that_are_no_text_are_a_path_all_the_same() -> None:
    assert Bind(source="/b\udcff").target == "/b\udcff"


@pytest.mark.parametrize("upper", ["/a", "/a/b", "/a/b/c", "/a/b/./c//d", "/"])
def test_changes_are_not_kept_in_what_they_change(upper: str) -> None:
    with pytest.raises(ConfigError, match="upper: must not lie in the source"):
        Overlay(source="/a/b", changes="keep", upper=upper)


def test_changes_may_be_kept_beside_what_they_change() -> None:
    assert Overlay(source="/a/b", changes="keep", upper="/a/bc").upper == "/a/bc"


def test_every_problem_is_said_whatever_else_is_wrong() -> None:
    """A level that is none, a host name and a list that is no list hide nothing."""
    wrong = problems(level="strikt", hostname="", keep_env=7, syscalls="defalt", syscalls_deny=["mountt", "execve"], bind=[7, "a:b:c:d"])
    for part in ("level:", "hostname:", "keep_env:", "'defalt'", "'mountt'", "'execve'", "not int", "'a:b:c:d'"):
        assert sum(part in problem for problem in wrong) == 1, part


def test_many_binds_are_checked_in_proportion_to_their_number() -> None:
    def looks(count: int) -> int:
        binds = [Bind(source="/srv", target=f"/data/{number}") for number in range(count)]
        for bind in binds:
            set_field(bind, "target", Counted(bind.target))
        Counted.looks = 0
        Sandbox(level="strict", bind=binds)
        return Counted.looks

    assert 0 < looks(1000) < 15 * looks(100)
