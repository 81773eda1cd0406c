# SPDX-License-Identifier: Apache-2.0
"""From a reference to a policy: names, places, files that extend others, and everything that can be wrong on the way."""

from __future__ import annotations

import pytest

from supervisor import ConfigError, Policy
from supervisor.model.policy.catalogue import Catalogue, Place, Want, clashes
from supervisor.model.policy.file import parse_file
from supervisor.model.policy.reference import Reference, beside, parse_reference
from supervisor.model.policy.resolve import examine, resolve


class Disk:
    """Texts by path, and the places: answers what the resolution wants, as the kernel layer does."""

    def __init__(self, files: dict[str, str], **places: dict[str, str]) -> None:
        self.files = {path: parse_file(text, path) for path, text in files.items()}
        order = ("project", "user", "system", "library")
        self.places = tuple(
            Place(name=name, files=tuple(parse_file(text, path) for path, text in places.get(name, {}).items())) for name in order
        )
        self.read: list[str] = []

    def catalogue(self) -> Catalogue:
        known = {path: self.files[path] for path in self.read if path}
        return Catalogue(files=known, places=self.places if "" in self.read else None)

    def resolve(self, reference: str) -> Policy:
        while isinstance(answer := resolve(parse_reference(reference), self.catalogue()), Want):
            assert answer.path not in self.read
            self.read.append(answer.path)
        return answer

    def examine(self, path: str) -> list[str]:
        while isinstance(answer := examine(self.files[path], self.catalogue()), Want):
            self.read.append(answer.path)
        return [str(problem) for problem in answer]


def refused(disk: Disk, reference: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        disk.resolve(reference)
    return str(caught.value).splitlines()


FAMILY = """\
[profile.child]
extends = "parent"
memory_max = "2G"
best_effort = ["tasks_max"]
[profile.parent]
description = "words"
memory_max = "1G"
tasks_max = 5
best_effort = ["io_weight"]
[profile.parent.sandbox]
level = "strict"
network = "none"
[profile.child.sandbox]
network = "host"
"""


def test_a_profiles_own_value_replaces_the_inherited_one_key_by_key() -> None:
    policy = Disk({"f.toml": FAMILY}).resolve("f.toml#child")
    assert policy.limits.given() == {"memory_max": 2 << 30, "tasks_max": 5}
    assert policy.best_effort == {"tasks_max", "io_weight"}
    assert policy.sandbox is not None and (policy.sandbox.level, policy.sandbox.network) == ("strict", "host")
    assert policy.description == "words"
    assert policy.chain == ("f.toml#child", "f.toml#parent")
    assert {key: origin.line for key, origin in policy.origins.items()} == {
        "memory_max": 3,
        "tasks_max": 8,
        "best_effort.tasks_max": 4,
        "best_effort.io_weight": 9,
        "sandbox.level": 11,
        "sandbox.network": 14,
    }


def test_nothing_but_the_file_is_read_when_it_says_everything() -> None:
    disk = Disk({"f.toml": FAMILY})
    disk.resolve("f.toml#child")
    assert disk.read == ["f.toml"]


def test_a_file_may_extend_another_beside_it() -> None:
    disk = Disk(
        {
            "/a/one.toml": '[profile.x]\nextends = "../b/two.toml#y"\n',
            "/a/../b/two.toml": '[profile.y]\nextends = "three.toml"\n[profile.z]\n',
            "/a/../b/three.toml": "[profile.only]\ntasks_max = 3\n",
        }
    )
    policy = disk.resolve("/a/one.toml")
    assert policy.limits.tasks_max == 3
    assert policy.files == ("/a/one.toml", "/a/../b/two.toml", "/a/../b/three.toml")


def test_a_name_means_the_nearest_place_that_has_it() -> None:
    places = {name: {f"{name}.toml": f"[profile.x]\ntasks_max = {n}\n"} for n, name in enumerate(("user", "system", "library"), 1)}
    assert Disk({}, **places).resolve("x").limits.tasks_max == 1
    del places["user"]
    assert Disk({}, **places).resolve("x").limits.tasks_max == 2


def test_a_profile_extends_the_one_of_its_name_farther_away() -> None:
    again = '[profile.judge]\nextends = "judge"\n'
    disk = Disk(
        {"mine.toml": again + "limit_nofile = 1\n"},
        user={"u.toml": again + "tasks_max = 1\n"},
        system={"s.toml": again + "memory_max = 1\n"},
        library={"l.toml": "[profile.judge]\ntasks_max = 9\nmemory_max = 9\nlimit_nofile = 9\noutput_max = 9\n"},
    )
    assert disk.resolve("judge").chain == ("u.toml#judge", "s.toml#judge", "l.toml#judge")
    policy = disk.resolve("mine.toml#judge")
    assert policy.limits.given() | {"limit_nofile": str(policy.limits.limit_nofile)} == {
        "tasks_max": 1, "memory_max": 1, "output_max": 9, "limit_nofile": "1",
    }  # fmt: skip


def test_a_place_farther_away_never_sees_a_nearer_one() -> None:
    """So nobody changes what the system's profiles mean by defining what they extend."""
    disk = Disk(
        {},
        user={"u.toml": "[profile.base]\ntasks_max = 1000\n"},
        system={"s.toml": '[profile.web]\nextends = "base"\n', "t.toml": "[profile.base]\ntasks_max = 1\n"},
    )
    assert disk.resolve("web").limits.tasks_max == 1


def test_two_files_of_one_place_that_define_a_profile_are_refused() -> None:
    disk = Disk({}, system={"a.toml": "[profile.x]\n", "b.toml": "\n[profile.x]\n"})
    said = "b.toml:2: profile.x: is defined in a.toml:1 as well; one name has one definition in one place, so rename or remove one"
    assert refused(disk, "x") == [said]
    assert [str(problem) for problem in clashes(disk.places)] == [said]


def test_a_project_may_add_names_but_not_redefine_any() -> None:
    disk = Disk(
        {},
        project={".ringfence.toml": '[profile.judge]\n[profile.mine]\nextends = "judge"\n'},
        library={"l.toml": "[profile.judge]\ntasks_max = 1\n"},
    )
    said = ".ringfence.toml:1: profile.judge: is defined in l.toml:1, and a project cannot redefine it; give it another name and extend 'judge'"
    assert refused(disk, "judge") == [said]
    assert [str(problem) for problem in clashes(disk.places)] == [said]


def test_an_unreadable_file_of_a_place_is_not_passed_over() -> None:
    """It might have said something tighter."""
    disk = Disk({}, system={"broken.toml": "["}, library={"l.toml": "[profile.x]\n"})
    assert refused(disk, "x") == ["broken.toml:1: not valid TOML: Invalid initial character for a key part (at the end of the file)"]


CIRCLE = """\
[profile.a]
extends = "b"
[profile.b]
extends = "c"
[profile.c]
extends = "b"
"""


def test_a_circle_is_refused_where_it_closes() -> None:
    assert refused(Disk({"f.toml": CIRCLE}), "f.toml#a") == ["f.toml:6: extends: a circle: b -> c -> b"]
    assert Disk({"f.toml": CIRCLE}).examine("f.toml") == [
        "f.toml:6: extends: a circle: b -> c -> b",
    ]
    assert refused(Disk({"f.toml": '[profile.a]\nextends = "a"\n'}), "f.toml") == [
        "f.toml:2: extends: a circle: a -> a, for no place behind this one defines it"
    ]


def test_a_circle_over_files_is_refused() -> None:
    disk = Disk({"a.toml": '[profile.x]\nextends = "b.toml"\n', "b.toml": '[profile.y]\nextends = "a.toml#x"\n'})
    assert refused(disk, "a.toml") == ["b.toml:2: extends: a circle: x -> y -> x"]


MANY = """\
[profile.a]
extends = "bb"
memory_mx = 1
[profile.b]
tasks_max = "x"
[profile.b.sandbox]
level = "none"
bind = ["/srv"]
[profile.c]
memory_high = "2G"
adaptive.memory_high = { min = "64M", max = "1G" }
"""


def test_every_problem_of_a_file_is_told_at_once() -> None:
    said = [
        "f.toml:2: extends: there is no profile 'bb'; did you mean 'b'?",
        "f.toml:3: memory_mx: unknown key; did you mean 'memory_max'?",
        "f.toml:5: tasks_max: 'x' is not a count: write a whole number such as 64, or infinity",
        "f.toml:8: sandbox.bind: needs the level basic or strict",
        "f.toml:11: adaptive.memory_high: the limit itself, 2G (f.toml:10), lies outside 64M to 1G",
    ]
    assert Disk({"f.toml": MANY}).examine("f.toml") == said
    assert refused(Disk({"f.toml": MANY}), "f.toml#c") == [said[1], said[2], said[3], said[4]]


def test_a_file_of_several_profiles_wants_a_choice() -> None:
    disk = Disk({"f.toml": "[profile.one]\n[profile.two]\n"})
    assert refused(disk, "f.toml") == ["f.toml: holds 2 profiles; choose one with f.toml#NAME: one, two"]
    assert refused(disk, "f.toml#on") == ["f.toml: there is no profile 'on'; did you mean 'one'?"]
    assert disk.resolve("f.toml#two").name == "two"


def test_a_name_nobody_defines_gets_the_nearest() -> None:
    disk = Disk({}, library={"l.toml": "[profile.judge]\n"})
    assert refused(disk, "juge") == ["there is no profile 'juge'; did you mean 'judge'?; 'ringfence policy show' lists them all"]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("judge", Reference(profile="judge")),
        ("judge.toml", Reference(file="judge.toml")),
        ("./judge", Reference(file="./judge")),
        ("judge.toml#x", Reference(file="judge.toml", profile="x")),
        ("odd#name.toml#x", Reference(file="odd#name.toml", profile="x")),
        ("f#x", Reference(file="f", profile="x")),
    ],
)
def test_a_reference_is_a_name_or_a_file(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize("text", ["", "#", "#x", "f#", "a\0b"])
def test_half_a_reference_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_reference(text)


def test_a_path_is_meant_from_the_file_it_stands_in() -> None:
    assert beside("/etc/x/a.toml", "b.toml") == "/etc/x/b.toml"
    assert beside("/etc/x/a.toml", "/b.toml") == "/b.toml"
    assert beside("a.toml", "b.toml") == "b.toml"


def test_a_chain_has_an_end() -> None:
    text = "".join(f"[profile.p{n}]\nextends = 'p{n + 1}'\n" for n in range(900)) + "[profile.p900]\n"
    disk = Disk({"f.toml": text})
    assert refused(disk, "f.toml#p0") == ["f.toml:64: extends: a chain of more than 32 profiles, which nobody can follow"]
    assert len(disk.examine("f.toml")) == 900 - 31
    assert len(disk.resolve("f.toml#p869").chain) == 32
