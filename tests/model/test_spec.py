# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.spec`` claims: a specification is sound, or every problem with it is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import FULL_HOST, argvs, relaxed

from supervisor.errors import ConfigError
from supervisor.model.limits import Limits
from supervisor.model.plan import make_environment, make_plan
from supervisor.model.spec import COLLECT, PIPE, RELAY, STDOUT, Credentials, JobSpec, grace_ns


def problems(**given: Any) -> list[str]:
    """What is wrong with a specification; it must be wrong."""
    with pytest.raises(ConfigError) as caught:
        JobSpec(**{"argv": ["true"], **given})
    assert all(problem and "\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def keys(**given: Any) -> list[str]:
    return [problem.partition(":")[0] for problem in problems(**given)]


def test_every_problem_is_reported_at_once() -> None:
    assert keys(
        argv=[],
        env={"": "x", "A=B": "x", "C": "\0"},
        working_directory="",
        umask=0o1000,
        nice=20,
        oom_score_adjust=-1001,
        kill_signal=0,
        best_effort=frozenset({"memory_mux"}),
        pass_fds=(2, 7),
        input=b"",
        stdin=5,
    ) == [
        "argv",
        "env",
        "env",
        "env",
        "working_directory",
        "umask",
        "nice",
        "oom_score_adjust",
        "kill_signal",
        "best_effort",
        "pass_fds",
        "input",
    ]


@pytest.mark.parametrize("argv", ["sleep 1", b"sleep 1", 5, None, {"sleep": 1}])
def test_a_command_line_in_one_text_is_refused_rather_than_split(argv: Any) -> None:
    assert problems(argv=argv) == ["argv: must be a list of texts such as ['sleep', '1'], one item an argument"]


@pytest.mark.parametrize("argv", [[], (), [""], [b""], ["", "x"]])
def test_an_empty_command_is_refused(argv: Any) -> None:
    assert problems(argv=argv) == ["argv: the command is missing"]


@pytest.mark.parametrize("argv", [["a", 5], ["a", None], [Path("/bin/true")]])
def test_an_argument_is_text_or_bytes(argv: Any) -> None:
    assert keys(argv=argv) == ["argv"]


@pytest.mark.parametrize("argv", [["a\0"], ["a", "\0"], ["a", b"x\0y"]])
def test_a_nul_in_an_argument_is_refused(argv: Any) -> None:
    assert "NUL" in problems(argv=argv)[0]


@pytest.mark.parametrize(
    "given", [{"argv": ["\ud800"]}, {"env": {"A": "\ud800"}}, {"env": {"\ud800": ""}}, {"working_directory": "\ud800"}]
)
def test_text_that_no_bytes_stand_for_is_refused_here_and_not_while_launching(given: Any) -> None:
    """A lone surrogate comes from JSON's \\ud800; only U+DC80 to U+DCFF stand for undecodable bytes."""
    assert len(keys(**given)) == 1


def test_undecodable_bytes_are_passed_on_as_they_were() -> None:
    plan = make_plan(JobSpec(argv=("/bin/\udcff",), env={"A": "\udc80"}), FULL_HOST, make_environment({}))
    assert (plan.argv, plan.env) == ((b"/bin/\xff",), b"A=\x80\0")


@pytest.mark.parametrize(
    "env", [{"": "x"}, {"A=": "x"}, {b"A=": "x"}, {"A\0": "x"}, {"A": "x\0"}, {b"A": b"\0"}, {"A": 5}, {5: "A"}, {"A": None}]
)
def test_a_variable_that_cannot_exist_is_refused(env: Any) -> None:
    assert keys(env=env) == ["env"]


@pytest.mark.parametrize("directory", ["", b"", "/tmp\0", b"/tmp\0", 5])
def test_a_directory_that_cannot_exist_is_refused(directory: Any) -> None:
    assert keys(working_directory=directory) == ["working_directory"]


@pytest.mark.parametrize(
    ("name", "low", "high", "words"),
    [
        ("umask", 0, 0o777, "0000 and 0777"),
        ("nice", -20, 19, "-20 and 19"),
        ("oom_score_adjust", -1000, 1000, "-1000 and 1000"),
        ("kill_signal", 1, 64, "1 and 64"),
    ],
)
def test_numbers_lie_within_the_kernels_bounds(name: str, low: int, high: int, words: str) -> None:
    for number in (low, high):
        assert getattr(JobSpec(argv=("true",), **{name: number}), name) == number  # type: ignore[arg-type]
    for number in (low - 1, high + 1):
        assert problems(**{name: number}) == [f"{name}: must lie between {words}"]


@pytest.mark.parametrize(
    "who",
    [
        Credentials(uid=-1),  # setresuid(-1) changes nothing and succeeds: the job would keep our privileges
        Credentials(gid=-1),
        Credentials(uid=2**32 - 1),
        Credentials(uid=2**32),  # the kernel would see 0
        Credentials(gid=2**32),
        Credentials(groups=(0, -1)),
        Credentials(groups=(2**32,)),
    ],
)
def test_a_user_that_the_kernel_would_read_as_another_is_refused(who: Credentials) -> None:
    assert keys(credentials=who) == ["credentials"]


def test_user_numbers_up_to_the_last_are_fine() -> None:
    JobSpec(argv=("true",), credentials=Credentials(uid=2**32 - 2, gid=0, groups=(0, 2**32 - 2)))


@pytest.mark.parametrize("cpus", [(), (-1,), (0, 8192)])
def test_an_affinity_names_at_least_one_possible_processor(cpus: tuple[int, ...]) -> None:
    assert keys(cpu_affinity=cpus) == ["cpu_affinity"]


@pytest.mark.parametrize(
    "given", [{"stdin": -6}, {"stdin": COLLECT}, {"stdin": RELAY}, {"stdin": STDOUT}, {"stdout": STDOUT}, {"stdout": -6}, {"stderr": -6}]
)
def test_a_stream_is_a_descriptor_or_a_constant_that_means_something_for_it(given: Any) -> None:
    assert keys(**given) == list(given)


@pytest.mark.parametrize("stream", [PIPE, COLLECT, RELAY])
def test_output_is_limited_wherever_it_passes_through_us(stream: int) -> None:
    JobSpec(argv=("true",), stdout=stream, stderr=stream, limits=Limits(output_max=1))


def test_input_needs_a_stdin_of_its_own() -> None:
    assert keys(input=b"x", stdin=0) == ["input"]
    assert JobSpec(argv=("cat",), input=b"x", stdin=PIPE).input == b"x"


@pytest.mark.parametrize("fd", [-1, 0, 2, "3", 1.5])
def test_a_passed_descriptor_is_a_number_of_3_or_more(fd: Any) -> None:
    assert keys(pass_fds=(fd,)) == ["pass_fds"]


@pytest.mark.parametrize("name", ["kill_grace_ns", "limit_grace_ns"])
def test_a_grace_period_does_not_lie_in_the_past(name: str) -> None:
    assert keys(**{name: -1}) == [name]


@relaxed
@given(argvs)
def test_any_sound_command_is_kept_as_given(argv: Any) -> None:
    assert JobSpec(argv=list(argv)).argv == argv


@relaxed
@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), st.lists))
def test_any_command_at_all_is_sound_or_a_config_error(argv: Any) -> None:
    try:
        JobSpec(argv=argv)
    except ConfigError as refused:
        assert [problem.partition(":")[0] for problem in refused.problems] == ["argv"]


def test_a_grace_period_is_a_duration() -> None:
    assert grace_ns("1.5s") == 1_500_000_000
    assert grace_ns(2) == 2_000_000_000
    assert grace_ns(0) == 0


@pytest.mark.parametrize("bad", ["soon", -1, "", True, None])
def test_a_bad_grace_period_is_a_config_error(bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"^kill_grace: "):
        grace_ns(bad)


def test_an_endless_grace_period_is_refused_because_the_job_might_never_end() -> None:
    with pytest.raises(ConfigError, match="must be finite"):
        grace_ns("infinity")


def test_a_specification_keeps_the_environment_it_was_given() -> None:
    """The caller's dict may change afterwards."""
    env = {"A": "1"}
    spec = JobSpec(argv=["true"], env=env)
    env["A"] = "2"
    assert spec.env == {"A": "1"}
