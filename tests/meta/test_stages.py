# SPDX-License-Identifier: Apache-2.0
"""Stages: native/plan.h, the built module and the hooks that Python makes agree on the names."""

from __future__ import annotations

import ast
import re

from source_tree import CHECKOUT, MODULES

from supervisor.kernel.native import STAGE_NUMBERS, STAGES


def declared() -> dict[str, str]:
    """The X-macro of the header: the enum's word and the name, in order."""
    header = (CHECKOUT / "native/plan.h").read_text(encoding="utf-8")
    return dict(re.findall(r'^    X\(([A-Z_]+), "([a-z_]+)"\)', header, re.MULTILINE))


def hook_stages() -> tuple[str, ...]:
    """Stages the child half runs: those after ``preexec`` and before ``exec``."""
    return STAGES[STAGE_NUMBERS["preexec"] + 1 : STAGE_NUMBERS["exec"]]


def named_by_hooks() -> set[str]:
    """Every stage that some ``Hook(stage="...")`` of the package names."""
    calls = [
        node
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Hook"
    ]
    given = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "stage"]
    assert len(given) == len(calls), "every hook names its stage by keyword"
    assert all(isinstance(item, ast.Constant) for item in given), "by a text in the source"
    return {str(item.value) for item in given if isinstance(item, ast.Constant)}


def test_the_built_module_has_the_headers_stages() -> None:
    assert tuple(declared().values()) == STAGES


def test_a_stages_name_is_its_word_in_the_header() -> None:
    assert all(word.lower() == name for word, name in declared().items())


def test_hooks_name_exactly_the_stages_that_the_child_half_runs() -> None:
    assert named_by_hooks() == set(hook_stages())


def test_the_child_half_has_a_case_for_each_of_them() -> None:
    source = (CHECKOUT / "native/child.c").read_text(encoding="utf-8")
    cases = re.findall(r"case SUP_STAGE_([A-Z_]+): return hook_([a-z_]+)\(", source)
    assert [name for _, name in cases] == [word.lower() for word, _ in cases]
    assert {name for _, name in cases} == set(hook_stages())


def test_hooks_are_made_in_the_order_of_the_table_but_for_the_streams() -> None:
    """The table is the order for readers; standard streams and descriptors are settled before the user changes."""
    streams = {"stdio", "close_fds", "pass_fd"}
    from supervisor.model.bpf import compile_filter
    from supervisor.model.hooks import make_hooks
    from supervisor.model.host import Host
    from supervisor.model.limit_kinds import Rlimit
    from supervisor.model.seccomp import syscall_profile
    from supervisor.model.spec import Credentials, JobSpec

    profile = syscall_profile()
    assert profile is not None

    spec = JobSpec(
        argv=("true",),
        credentials=Credentials(uid=1, gid=1, groups=(1,)),
        working_directory="/",
        umask=0,
        nice=1,
        oom_score_adjust=1,
        cpu_affinity=(0,),
        controlling_terminal=5,
        no_new_privileges=True,
    )
    made = [
        hook.stage
        for hook in make_hooks(spec, Host(), {7: Rlimit(soft=1, hard=1)}, filtered=compile_filter(profile, "x86_64"))
        if hook.stage not in streams
    ]
    assert made == [stage for stage in hook_stages() if stage in made]
