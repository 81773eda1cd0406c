# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.plan`` claims: one launch decided in full, for every host, before the kernel is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import BARE_HOST, FULL_CGROUP, FULL_HOST, brief, environments, hosts, relaxed, specs

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.host import Host
from supervisor.model.limits import Limits, show_limit
from supervisor.model.plan import DEFAULT_PATH, SHARES, CgroupStep, LaunchPlan, explain, frame_key, make_environment, make_frame, make_plan
from supervisor.model.sandbox import Sandbox
from supervisor.model.spec import COLLECT, DEVNULL, PIPE, RELAY, STDOUT, JobSpec
from supervisor.model.value import field_names, replace


def planned(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> LaunchPlan | None:
    """The plan, or None where it is refused."""
    try:
        return make_plan(spec, host, make_environment(environ))
    except (UnsupportedError, ConfigError):
        return None


def plan_of(host: Host = FULL_HOST, **limits: object) -> LaunchPlan:
    return make_plan(JobSpec(argv=("true",), limits=Limits(**limits)), host, make_environment({}))


def made(plan: LaunchPlan) -> list[str]:
    """The directories a plan makes, in order; "" is the job's own."""
    return [step.path for step in plan.cgroup_steps if not step.text]


# the cgroup tree


@brief
@given(specs(), hosts, environments)
def test_a_plan_asks_for_no_cgroup_feature_that_the_host_lacks(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    plan = planned(spec, host, environ)
    if plan is None:
        return
    if host.cgroup is None:
        assert (plan.tree, plan.cgroup_steps, plan.cgroup_leaf, plan.cgroup_box) == ("holder", (), "", "")
        return
    assert plan.tree == "cgroup"
    for step in plan.cgroup_steps:
        folder, _, file = step.path.rpartition("/")
        if not step.text:
            continue
        if file == "cgroup.subtree_control":
            assert {word.removeprefix("+") for word in step.text.split()} <= host.cgroup.controllers
        else:
            assert file.partition(".")[0] in host.cgroup.controllers
            assert file != "memory.swap.max" or host.cgroup.has_swap_max
        assert file
        assert folder in made(plan)


@brief
@given(specs(), hosts, environments)
def test_controllers_are_enabled_in_the_parent_before_a_file_of_theirs_is_written(
    spec: JobSpec, host: Host, environ: dict[bytes, bytes]
) -> None:
    plan = planned(spec, host, environ)
    if plan is None or host.cgroup is None:
        return
    enabled: dict[str, set[str]] = {"": set(host.cgroup.controllers)}
    for step in plan.cgroup_steps:
        folder, _, file = step.path.rpartition("/")
        if not step.text:
            enabled.setdefault(step.path, set())
        elif file == "cgroup.subtree_control":
            below = "box" if folder == "" else "box/payload"
            enabled[below] = {word.removeprefix("+") for word in step.text.split()}
            assert enabled[below] <= enabled[folder]
        else:
            assert file.partition(".")[0] in enabled[folder], step.path


@brief
@given(specs(), hosts, environments)
def test_the_job_is_born_in_a_directory_the_plan_makes_below_its_limits(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    plan = planned(spec, host, environ)
    if plan is None or host.cgroup is None:
        return
    assert made(plan)[0] == ""
    assert plan.cgroup_leaf in made(plan)
    assert plan.cgroup_box in made(plan)
    assert plan.cgroup_leaf.startswith(plan.cgroup_box)
    limited = {
        step.path.rpartition("/")[0]
        for step in plan.cgroup_steps
        if step.text and "cgroup." not in step.path and "oom.group" not in step.path and step.path.rpartition("/")[2] not in SHARES
    }
    assert limited <= {"box"}, "but for shares, which count among siblings and stand on the job's own directory"
    assert plan.cgroup_leaf not in limited, "the payload holds no limit, so an oom event at the box is the box's own"


@brief
@given(specs(), hosts, environments)
def test_one_oom_kill_ends_the_whole_payload_wherever_memory_is_controlled(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    plan = planned(spec, host, environ)
    if plan is None or host.cgroup is None:
        return
    group = [step for step in plan.cgroup_steps if step.path.endswith("memory.oom.group")]
    leaf = plan.cgroup_leaf + "/" if plan.cgroup_leaf else ""
    expected = [CgroupStep(path=f"{leaf}memory.oom.group", text="1", expect="1")] if "memory" in host.cgroup.controllers else []
    assert group == expected


def test_the_tree_of_a_limited_job() -> None:
    assert plan_of(memory_max="64M").cgroup_steps == (
        CgroupStep(path=""),
        CgroupStep(path="cgroup.subtree_control", text="+cpu +io +memory +pids"),
        CgroupStep(path="box"),
        CgroupStep(path="box/memory.max", text="67108864", expect="67108864"),
        CgroupStep(path="box/memory.swap.max", text="0", expect="0"),
        CgroupStep(path="box/cgroup.subtree_control", text="+memory"),
        CgroupStep(path="box/payload"),
        CgroupStep(path="box/payload/memory.oom.group", text="1", expect="1"),
    )


@pytest.mark.parametrize("file", ["memory.min", "memory.low"])
def test_a_protection_stands_on_every_level_down_to_the_processes(file: str) -> None:
    """Without memory_recursiveprot a directory whose own is 0 has none, whatever those above it grant."""
    given: dict[str, Any] = {file.replace(".", "_"): "8M"}
    plan = plan_of(**given)
    found = [(step.path, step.text) for step in plan.cgroup_steps if step.path.endswith(file)]
    assert found == [(file, "8388608"), (f"box/{file}", "8388608"), (f"{plan.cgroup_leaf}/{file}", "8388608")]


def test_the_tree_of_a_job_without_limits_is_one_directory() -> None:
    assert plan_of().cgroup_steps == (CgroupStep(path=""), CgroupStep(path="memory.oom.group", text="1", expect="1"))
    assert plan_of(wall_time_max=1).cgroup_leaf == ""


def test_cpuset_is_enabled_on_request_only_because_attaching_serialises_on_a_kernel_lock() -> None:
    asked, plain = [plan_of(**limits).cgroup_steps[1].text.split() for limits in ({"allowed_cpus": "0"}, {"tasks_max": 5})]
    assert "+cpuset" in asked
    assert "+cpuset" not in plain


def test_every_configured_number_is_read_back() -> None:
    plan = plan_of(memory_max="64M", tasks_max=5, cpu_quota="50%", cpu_weight=50, allowed_cpus="0-1", io_weight=10)
    unread = [step.path for step in plan.cgroup_steps if step.text and not step.expect]
    assert unread == ["cgroup.subtree_control", "box/cgroup.subtree_control"]


# the command


@brief
@given(specs(), hosts, environments)
def test_arguments_and_environment_are_carried_as_bytes_without_loss(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    plan = planned(spec, host, environ)
    if plan is None:
        return
    raw = [item if isinstance(item, bytes) else item.encode() for item in spec.argv]
    assert list(plan.argv) == raw
    strings = plan.env.split(b"\0")[:-1]
    assert len(strings) == plan.env_count
    given = environ if spec.env is None else spec.env
    wanted = {(k if isinstance(k, bytes) else k.encode()): (v if isinstance(v, bytes) else v.encode()) for k, v in given.items()}
    assert dict(string.split(b"=", 1) for string in strings) == wanted


def paths(program: str, environ: dict[bytes, bytes], env: dict[str | bytes, str | bytes] | None = None) -> tuple[bytes, ...]:
    return make_plan(JobSpec(argv=(program,), env=env), FULL_HOST, make_environment(environ)).paths


def test_whoever_launches_is_told_how_many_processors_are_online() -> None:
    assert plan_of(replace(FULL_HOST, stay_processors=8)).stay_processors == 8
    assert plan_of(Host()).stay_processors == 0


def test_a_program_with_a_slash_is_taken_as_it_is() -> None:
    assert paths("./run", {b"PATH": b"/bin"}) == (b"./run",)
    assert paths("/bin/true", {}) == (b"/bin/true",)


def test_a_program_without_a_slash_is_looked_up_in_path_in_order() -> None:
    assert paths("true", {b"PATH": b"/usr/bin:/bin"}) == (b"/usr/bin/true", b"/bin/true")


def test_the_path_is_that_of_the_jobs_own_environment() -> None:
    assert paths("true", {b"PATH": b"/bin"}, {"PATH": "/opt"}) == (b"/opt/true",)


def test_without_a_path_the_usual_places_are_tried() -> None:
    assert paths("true", {b"PATH": b"/bin"}, {}) == tuple(f"{folder}/true".encode() for folder in DEFAULT_PATH.split(":"))


def test_an_empty_entry_of_the_path_is_the_current_directory() -> None:
    assert paths("true", {b"PATH": b":/bin:"}) == (b"./true", b"/bin/true", b"./true")


# streams


def streams(spec: JobSpec) -> tuple[object, object, object]:
    plan = make_plan(spec, FULL_HOST, make_environment({}))
    return plan.stdin, plan.stdout, plan.stderr


def test_streams_are_inherited_unless_somebody_says_otherwise() -> None:
    assert streams(JobSpec(argv=("true",))) == (None, None, None)
    assert streams(JobSpec(argv=("true",), stdin=5, stdout=COLLECT, stderr=STDOUT)) == (5, COLLECT, STDOUT)


def test_input_travels_through_a_pipe() -> None:
    assert streams(JobSpec(argv=("cat",), input=b"")) == (PIPE, None, None)


@relaxed
@given(st.none() | st.integers(0, 9) | st.sampled_from([COLLECT, DEVNULL, RELAY]), st.none() | st.sampled_from([COLLECT, RELAY, STDOUT]))
def test_output_that_is_limited_passes_through_us(stdout: int | None, stderr: int | None) -> None:
    limits = Limits(output_max="1M")
    _, out, err = streams(JobSpec(argv=("true",), stdout=stdout, stderr=stderr, limits=limits))
    assert out in (COLLECT, RELAY, DEVNULL)
    assert err in (COLLECT, RELAY, STDOUT)
    assert stdout not in (COLLECT, DEVNULL) or out == stdout


# the plan as a whole


@brief
@given(specs(), hosts, environments)
def test_planning_has_no_memory_and_no_surroundings(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    assert planned(spec, host, environ) == planned(spec, host, dict(environ))


@brief
@given(specs(), specs(), hosts)
def test_a_frame_may_be_kept_for_every_specification_with_the_same_key(spec: JobSpec, other: JobSpec, host: Host) -> None:
    differing = {
        name: getattr(other, name)
        for name in field_names(JobSpec)
        if frame_key(replace(spec, **{name: getattr(other, name)})) == frame_key(spec)
    }
    other = replace(spec, **differing)  # everything the key does not look at is another
    try:
        frame = make_frame(spec, host)
    except (UnsupportedError, ConfigError):
        assert planned(other, host, {}) is None
    else:
        assert make_plan(other, host, make_environment({}), frame) == make_plan(other, host, make_environment({}))


@brief
@given(specs(), hosts, environments)
def test_explain_mentions_every_step_every_limit_and_every_warning(spec: JobSpec, host: Host, environ: dict[bytes, bytes]) -> None:
    plan = planned(spec, host, environ)
    if plan is None:
        return
    text = explain(plan)
    for hook in plan.hooks:
        assert f"  {hook.stage:<20} {hook.text}" in text
    for step in plan.cgroup_steps:
        assert f"job/{step.path}" in text
        assert repr(step.text) in text or not step.text
    for name, mechanism in plan.enforcement.items():
        assert name in text
        assert mechanism in text
    for name, amount in plan.limits.given().items():
        assert show_limit(name, amount) in text
    for warning in plan.warnings:
        assert f"warning: {warning}" in text
    for path in plan.paths:
        assert path.decode("utf-8", "backslashreplace") in text


def test_a_plan_for_a_host_without_cgroups_is_held_by_the_helper() -> None:
    plan = plan_of(BARE_HOST, wall_time_max=1, limit_nofile=64)
    assert (plan.tree, plan.cgroup_steps) == ("holder", ())
    assert plan.enforcement["tree"].startswith("init helper")


def test_the_plan_keeps_the_limits_as_they_apply_here() -> None:
    assert plan_of(memory_max="25%").limits == replace(Limits(), memory_max=2 << 30, memory_swap_max=0)


def test_a_refusal_comes_before_any_step() -> None:
    with pytest.raises(UnsupportedError, match="pids"):
        plan_of(replace(FULL_HOST, cgroup=replace(FULL_CGROUP, controllers=frozenset({"memory"}))), tasks_max=5)


def test_a_filter_is_in_the_plan_with_its_words_and_what_is_named_after_it() -> None:
    spec = JobSpec(argv=("true",), sandbox=Sandbox(syscalls="compute"))
    plan = make_plan(spec, FULL_HOST, make_environment({}))
    assert plan.syscall_filter is not None and plan.syscall_filter.machine == FULL_HOST.machine
    assert plan.enforcement["syscalls"] == "seccomp filter 'compute'"
    assert "seccomp" in explain(plan)
    assert frame_key(spec) != frame_key(JobSpec(argv=("true",)))


def test_a_filter_for_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no table of system calls for riscv64"):
        make_plan(JobSpec(argv=("true",), sandbox=Sandbox(syscalls="default")), replace(FULL_HOST, machine="riscv64"), make_environment({}))
