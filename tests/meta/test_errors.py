# SPDX-License-Identifier: Apache-2.0
"""The error tree: what its docstring draws is what there is, and every error can travel."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import NamedTuple

import pytest

import supervisor
from supervisor import errors
from supervisor.model.outcome import Exit, Outcome, Verdict


class Drawn(NamedTuple):
    """One line of the drawing."""

    parent: str
    also: str
    attributes: tuple[str, ...]


def drawing() -> dict[str, Drawn]:
    """The tree of the module's docstring, by name."""
    found: dict[str, Drawn] = {}
    above: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        drawn = re.fullmatch(
            r" *(?P<bars>(?:[│ ]   )*)(?P<branch>[├└]── )?(?P<name>[A-Z][A-Za-z]+)(\((?P<also>\w+)\))?(?:  +(?P<said>.*))?", line
        )
        if drawn is None or not drawn["name"].endswith(("Error", "Failed")):
            continue
        depth = len(drawn["bars"]) // 4 + 1 if drawn["branch"] else 0
        above[depth:] = [drawn["name"]]
        attributes = tuple(re.findall(r"\.([a-z]+)\b", (drawn["said"] or "").partition(": ")[2]))
        found[drawn["name"]] = Drawn(above[depth - 1] if depth else "", drawn["also"] or "", attributes)
    return found


def classes() -> dict[str, type[BaseException]]:
    return {
        name: made
        for name, made in vars(errors).items()
        if isinstance(made, type) and issubclass(made, BaseException) and made.__module__ == errors.__name__
    }


EXAMPLES = (
    errors.SupervisorError("why"),
    errors.ConfigError("memory_max: wrong", "argv: missing", source="job.toml"),
    errors.UnsupportedError("memory_max", "no memory controller"),
    errors.SpawnError(2, "No such file or directory", "exec", 3),
    errors.CgroupError(16, "Device or resource busy", "job-1/memory.max", "write"),
    errors.JobFailed(Outcome(verdict=Verdict.NONZERO_EXIT, exit=Exit(code=3))),
    errors.BrokenError("closed its end", "worker"),
    errors.TaskTimeoutError(Outcome(verdict=Verdict.WALL_LIMIT, limits_hit=("wall_time_max",))),
    errors.RemoteError("in the worker:", "Traceback"),
    errors.CorruptError("damaged"),
    errors.OverrunError(7),
    errors.ServiceFailed("web", "exit-code", "exit 3", Outcome(verdict=Verdict.NONZERO_EXIT, exit=Exit(code=3))),
    errors.ClosedError("closed"),
    errors.BusyError("busy"),
    errors.ReplyError("failed", "no such file"),
    errors.TimedOutError("no answer within 2 s"),
    errors.InternalError("broken"),
)


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    real = {}
    for name, made in classes().items():
        ours = [base.__name__ for base in made.__bases__ if base.__module__ == errors.__name__]
        others = [base.__name__ for base in made.__bases__ if base.__module__ != errors.__name__ and base is not Exception]
        assert len(ours) <= 1, name
        real[name] = ("".join(ours), "".join(others))
    assert {name: (drawn.parent, drawn.also) for name, drawn in drawing().items()} == real


def test_the_attributes_in_the_docstring_are_there() -> None:
    examples = {type(example).__name__: example for example in EXAMPLES}
    named = [(name, attribute) for name, drawn in drawing().items() for attribute in drawn.attributes]
    assert len(named) >= 8
    for name, attribute in named:
        assert hasattr(examples[name], attribute), f"{name}.{attribute}"


def test_every_error_is_documented_exported_and_under_one_root() -> None:
    for name, made in classes().items():
        assert made.__doc__
        assert issubclass(made, errors.SupervisorError)
        assert getattr(supervisor, name) is made
        assert name in supervisor.__all__


def test_there_is_an_example_of_every_error() -> None:
    assert {type(example) for example in EXAMPLES} == set(classes().values())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_says_something_on_one_or_more_lines(error: errors.SupervisorError) -> None:
    assert str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_survives_copying_and_the_way_between_processes(error: errors.SupervisorError) -> None:
    """Pools and executors carry exceptions by pickle."""
    for made in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(made) is type(error)
        assert str(made) == str(error)
        assert vars(made) == vars(error)


def test_wrong_configuration_is_a_value_error_and_failing_calls_are_os_errors() -> None:
    with pytest.raises(ValueError, match=r"^job.toml: a: wrong\njob.toml: b: wrong$"):
        raise errors.ConfigError("a: wrong", "b: wrong", source="job.toml")
    with pytest.raises(OSError, match=r"^No such file or directory \(step exec, errno 2\)$") as caught:
        raise errors.SpawnError(2, "No such file or directory", "exec")
    assert caught.value.errno == 2
