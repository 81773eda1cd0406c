# SPDX-License-Identifier: Apache-2.0
"""isolate's command line: names, units and defaults of isolate(1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.model.isolate_options import LONG, SHORT, isolate_limits, parse_isolate
from supervisor.model.isolate_rules import DirRule, EnvRule, apply_env_rules, dir_rules, parse_dir_rule
from supervisor.model.limits import show_limit


def limits_of(*argv: str) -> dict[str, str]:
    return {
        name: show_limit(name, amount) for name, amount in isolate_limits(parse_isolate(["--run", *argv, "--", "prog"])).given().items()
    }


DEFAULTS = {"limit_stack": "infinity", "limit_core": "0", "limit_memlock": "0", "limit_nofile": "1024", "tasks_max": "1"}


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ((), {}),
        (("--time=1.5",), {"cpu_time_max": "1.500s"}),
        (("-t", ".25"), {"cpu_time_max": "250ms"}),
        (("--time=1", "--extra-time=0.5"), {"cpu_time_max": "1s"}),
        (("--time=1", "--extra-time=3"), {"cpu_time_max": "3s"}),
        (("--extra-time=3",), {}),
        (("--time=0",), {}),
        (("--wall-time=10",), {"wall_time_max": "10s"}),
        (("--mem=65536",), {"limit_as": str(64 << 20)}),
        (("--cg", "--cg-mem=1024"), {"memory_max": "1M"}),
        (("--stack=8192",), {"limit_stack": str(8 << 20)}),
        (("--fsize=10",), {"limit_fsize": "10240"}),
        (("--core=1",), {"limit_core": "1024"}),
        (("-n", "64"), {"limit_nofile": "64"}),
        (("--open-files=0",), {"limit_nofile": None}),
        (("--processes=8",), {"tasks_max": "8"}),
        (("-p",), {"tasks_max": None}),
    ],
)
def test_limits_have_isolates_units_and_defaults(argv: tuple[str, ...], changed: dict[str, str | None]) -> None:
    """Kilobytes of 1024 bytes, seconds with a fraction, one process unless said otherwise."""
    assert limits_of(*argv) == {name: text for name, text in {**DEFAULTS, **changed}.items() if text is not None}


def test_the_rest_of_a_run() -> None:
    made = parse_isolate(
        "--cg -b7 -M meta -i in -o out -r err --stderr-to-stdout -c /box/sub -vv -s --share-net --wait --run -- a -x".split()
    )
    assert made.argv == ("a", "-x")
    assert (made.command, made.box_id, made.meta, made.stdin, made.stdout, made.chdir) == ("run", 7, "meta", "in", "out", "/box/sub")
    assert (made.stderr, made.stderr_to_stdout) == (None, True)  # the last one wins
    assert (made.verbose, made.silent, made.share_net, made.cg, made.wait) == (2, True, True, True, True)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "a command is missing"),
        (["--init", "--run"], "only one command"),
        (["--run"], "the program is missing"),
        (["--init", "prog"], "'prog'"),
        (["--run", "--cg-mem=5", "--", "a"], "--cg-mem: needs --cg"),
        (["--run", "--time=abc", "--", "a"], "--time: 'abc'"),
        (["--run", "--time=-1", "--", "a"], "--time: '-1'"),
        (["--run", "--time=.", "--", "a"], r"--time: '\.'"),
        (["--run", "--time=1e3", "--", "a"], "--time: '1e3'"),
        (["--run", "--time=99999999", "--", "a"], "out of range"),
        (["--run", "--mem=12k", "--", "a"], "--mem: '12k'"),
        (["--run", "--mem=2147483648", "--", "a"], "out of range"),
        (["--run", "--mem=-1", "--", "a"], "--mem: '-1'"),
        (["--init", "--quota=5"], "--quota: '5' must be BLOCKS,INODES"),
        (["--run", "--env==x", "--", "a"], "--env: '=x'"),
        (["--run", "--as-uid=1", "--", "a"], "both or none"),
        (["--run", "--dir=x:what", "--", "a"], "unknown option 'what'"),
        (["--run", "--dir=../x", "--", "a"], "without '..'"),
        (["--run", "--dir=/", "--", "a"], "below the root"),
        (["--run", "--dir=x=y", "--", "a"], "must start with '/'"),
        (["--run", "--dir=x:fs", "--", "a"], "one of proc"),
        (["--run", "--dir=x=/y:tmp", "--", "a"], "no right-hand side"),
        (["--run", "--dir=x=proc:fs:tmp", "--", "a"], "exclude each other"),
        (["--run", "--frobnicate", "--", "a"], "unrecognized option '--frobnicate'"),
    ],
)
def test_what_is_wrong_is_named(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_isolate(argv)


def test_directories_replace_each_other_in_place() -> None:
    """As the manual says: a replaced rule keeps its position, IN= removes one, -D leaves out the defaults."""
    assert [rule.inside for rule in dir_rules([], True)] == ["box", "bin", "dev", "dev/shm", "lib", "lib64", "proc", "tmp", "usr"]
    changed = dir_rules(["/bin=/opt/bin", "tmp=", "data=/srv/data:rw:norec", "etc"], True)
    assert [rule.inside for rule in changed] == ["box", "bin", "dev", "dev/shm", "lib", "lib64", "proc", "usr", "data", "etc"]
    assert changed[1] == DirRule(inside="bin", outside="/opt/bin")
    assert changed[-2] == DirRule(inside="data", outside="/srv/data", options=frozenset({"rw", "norec"}))
    assert changed[-1] == DirRule(inside="etc", outside="/etc")
    assert dir_rules(["box=./box:rw"], False) == (DirRule(inside="box", outside="./box", options=frozenset({"rw"})),)
    assert parse_dir_rule("a/b:tmp") == DirRule(inside="a/b", outside="./tmp/a:b", options=frozenset({"rw", "tmp"}))


def test_environment_rules_apply_in_order_after_full_env() -> None:
    own = {"A": "1", "B": "2", "EMPTY": ""}
    rules = [EnvRule(name="A", text="x"), EnvRule(name="B"), EnvRule(name="GONE"), EnvRule(name="EMPTY"), EnvRule(name="C", text="")]
    assert apply_env_rules(rules, False, own) == {"LIBC_FATAL_STDERR_": "1", "A": "x", "B": "2", "EMPTY": ""}
    assert apply_env_rules([EnvRule(name="A", text="")], True, own) == {"LIBC_FATAL_STDERR_": "1", "B": "2", "EMPTY": ""}


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*(f"--{name}" for name in LONG), *(f"-{letter}" for letter in SHORT), "--", "1", "x=y"]), st.text(max_size=8)
        )
    )
)
def test_every_command_line_is_read_or_refused_in_one_line(argv: list[str]) -> None:
    try:
        made = parse_isolate(argv)
    except ConfigError as error:
        assert len(error.problems) == 1 and error.problems[0]
        return
    isolate_limits(made)
