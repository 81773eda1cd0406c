# SPDX-License-Identifier: Apache-2.0
"""isolate's rules as a strict sandbox: what is shown, and what is refused instead of being shown otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.isolate_options import parse_isolate
from supervisor.model.isolate_sandbox import isolate_sandbox
from supervisor.model.sandbox import Bind, Sandbox

BOX = Bind(source="/state/7/box", target="/box", mode="rw")


def sandbox(*argv: str, there: bool = True) -> Sandbox:
    return isolate_sandbox(parse_isolate([*argv, "--run", "--", "prog"]), "/state/7", 60007, lambda path: there)


def test_by_default_the_box_and_what_strict_shows_itself() -> None:
    made = sandbox()
    assert (made.level, made.network, made.uid, made.gid, made.bind) == ("strict", "loopback", 60007, 60007, (BOX,))
    assert sandbox("--share-net").network == "host"


@pytest.mark.parametrize(
    ("rule", "bind"),
    [
        ("etc", Bind(source="/etc", target="/etc")),
        ("/data=/srv/tests", Bind(source="/srv/tests", target="/data")),
        ("data=/srv/tests:rw", Bind(source="/srv/tests", target="/data", mode="rw")),
        ("scratch/a:tmp", Bind(source="/state/7/tmp/scratch:a", target="/scratch/a", mode="rw")),
        ("more=./more", Bind(source="/state/7/more", target="/more")),
        ("usr=/opt/usr", Bind(source="/opt/usr", target="/usr")),
    ],
)
def test_a_rule_is_a_bind(rule: str, bind: Bind) -> None:
    assert set(sandbox("--dir", rule).bind) == {BOX, bind}


def test_a_rule_that_may_fail_is_left_out_where_nothing_is() -> None:
    assert sandbox("--dir=x=/y:maybe", there=False).bind == (BOX,)
    assert len(sandbox("--dir=x=/y:maybe").bind) == 2


@pytest.mark.parametrize("rule", ["x=/y:noexec", "x=/y:dev", "x=/y:norec", "x=tmpfs:fs", "box=", "usr=", "tmp=", "proc="])
def test_what_strict_cannot_do_is_refused_by_name(rule: str) -> None:
    with pytest.raises(UnsupportedError, match=r"^--dir="):
        sandbox("--dir", rule)
    with pytest.raises(UnsupportedError, match=r"^--dir="):
        sandbox("--no-default-dirs")


@given(st.lists(st.from_regex(r"[a-z/.]{1,6}(=[./][a-z/]{0,4})?(:(rw|maybe|tmp|dev|fs))?", fullmatch=True), max_size=4))
def test_no_rule_shows_more_than_it_says(rules: list[str]) -> None:
    """Every bind is one of the rules, writable only where one says so."""
    try:
        options = parse_isolate([*(f"--dir={rule}" for rule in rules), "--run", "--", "prog"])
        made = isolate_sandbox(options, "/state/7", 60007, lambda path: True)
    except (ConfigError, UnsupportedError):
        return
    writable = {
        "/" + "/".join(part for part in rule.inside.split("/") if part not in ("", ".")) for rule in options.dirs if "rw" in rule.options
    }
    assert {bind.target for bind in made.bind if bind.mode == "rw"} <= writable
