# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy check``: every problem at once."""

from __future__ import annotations

from supervisor.cli.policy.verbs import print_json, read_options
from supervisor.kernel.policy_files import PolicyReader
from supervisor.model.policy.catalogue import clashes
from supervisor.model.spelling import visible
from supervisor.model.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.policy.file import PolicyFile
    from supervisor.model.policy.problem import Problem

FILES_MAX: Final = 10_000


def check(argv: list[str]) -> int:
    """Print what is wrong with the files named, or with every file of the places; 1 when anything is."""
    options, paths = read_options(argv, {"json": 0}, 0, FILES_MAX)
    reader = PolicyReader()
    everywhere = not paths
    paths = paths or [file.name for place in reader.places() for file in place.files]
    files: list[PolicyFile] = []
    problems: dict[Problem, None] = {}
    for path in paths:
        file, found = reader.check(path)
        files.append(file)
        problems |= dict.fromkeys(found)
    if everywhere:
        problems |= dict.fromkeys(clashes(reader.places()))
    if "json" in options:
        shown = [{"file": file.name, "profiles": list(file.profiles)} for file in files]
        print_json({"version": 1, "files": shown, "problems": plain(tuple(problems))})
    else:
        for problem in problems:
            print(problem)
        wrong = {problem.file for problem in problems}
        for file in files:
            if file.name not in wrong:
                print(f"{visible(file.name)}: {_count(len(file.profiles))}, no problems")
    return 1 if problems else 0


def _count(number: int) -> str:
    return "1 profile" if number == 1 else f"{number} profiles"
