# SPDX-License-Identifier: Apache-2.0
"""What ``supervisor.model.confine`` claims: every sandbox becomes steps in an order that holds, or is refused with the missing piece."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import BARE_HOST, FULL_HOST, Counted, relaxed

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.confine import NOT_CONFINED, STEPS, Confinement, confine, disk_problem
from supervisor.model.host import SandboxFacts, SystemPlace
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.limits import Limits
from supervisor.model.plan import explain, make_environment, make_plan
from supervisor.model.sandbox import Sandbox
from supervisor.model.spec import Credentials, JobSpec
from supervisor.model.units import INFINITY
from supervisor.model.value import replace, set_field

SYSTEM = (
    SystemPlace(kind="directory", path="/usr", source="/usr"),
    SystemPlace(kind="link", path="/bin", source="usr/bin"),
    SystemPlace(kind="file", path="/etc/ld.so.cache", source="/etc/ld.so.cache"),
    SystemPlace(kind="file", path="/etc/resolv.conf", source="/run/resolv.conf", network=True),
)
FACTS = SandboxFacts(uid=1234, gid=5678, mount_capable=False, landlock_abi=6, system=SYSTEM)
HOST = replace(FULL_HOST, sandbox=FACTS)


def steps(sandbox: Sandbox | None, facts: SandboxFacts = FACTS, **spec: Any) -> Confinement:
    """The steps of a sandbox for a job."""
    return confine(JobSpec(argv=("true",), sandbox=sandbox, **spec), replace(HOST, sandbox=facts))


def strict(**given: Any) -> Sandbox:
    return Sandbox(level="strict", **given)


def texts(confinement: Confinement, stage: str) -> list[list[str]]:
    """The texts in the data of every hook of a stage."""
    return [hook.data.decode().split("\0")[:-1] for hook in confinement.setup if hook.stage == stage]


def test_a_job_without_sandbox_has_no_steps() -> None:
    assert steps(None) is steps(Sandbox()) is NOT_CONFINED


def test_strict_is_built_by_the_helper_and_ends_with_the_pivot() -> None:
    made = steps(strict())
    stages = [hook.stage for hook in made.setup]
    assert made.by_init
    assert stages[0] == "user_map" and stages[-1] == "pivot" and set(stages) <= STEPS
    assert stages.index("root") < stages.index("bind") < stages.index("proc")


def test_strict_has_every_namespace_and_the_network_unless_it_is_the_hosts() -> None:
    assert steps(strict()).namespaces == steps(strict(network="host")).namespaces | 0x40000000
    assert steps(strict()).namespaces == 0x20000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000


def test_ids_are_mapped_to_our_own() -> None:
    assert texts(steps(strict(uid=7, gid=8)), "user_map") == [["7 1234 1\n", "8 5678 1\n"]]


def test_a_place_that_a_bind_covers_is_not_built() -> None:
    made = steps(strict(bind=["/srv/etc:/etc", "/srv/usr:/usr"]))
    assert [source for source, target in texts(made, "bind") if target == "usr"] == ["/srv/usr"]
    assert not [target for source, target in texts(made, "bind") if target.startswith("etc/")]
    assert not [path for path, _ in texts(made, "place") if path.startswith("etc/")]


def test_names_of_the_network_come_with_the_network_only() -> None:
    assert "etc/resolv.conf" not in [target for _, target in texts(steps(strict()), "bind")]
    assert "etc/resolv.conf" in [target for _, target in texts(steps(strict(network="host")), "bind")]


def test_nothing_is_made_below_what_is_shown() -> None:
    made = steps(strict(bind=["/a:/usr/local/a", "/b:/data", "/c:/data/c", "/d:/other"]))
    existing = {
        hook.text.split()[2].rstrip(","): hook.arg & 2 for hook in made.setup if hook.stage == "bind" and hook.text.endswith(", ro")
    }
    assert {target: existing[target] for target in ("/usr/local/a", "/data", "/data/c", "/other")} == {
        "/usr/local/a": 2,
        "/data": 0,
        "/data/c": 2,
        "/other": 0,
    }


def test_a_job_gets_an_eighth_of_what_is_counted_for_its_starter_unless_its_limits_say_otherwise() -> None:
    facts = replace(FACTS, user_counts={"max_inotify_instances": 128, "max_inotify_watches": 7}, hard_rlimits={11: 4000, 12: INFINITY})
    made = steps(strict(), facts)
    names = ("max_user_namespaces", "0", "max_inotify_instances", "16", "max_inotify_watches", "1")
    assert texts(made, "user_namespaces") == [[f"/proc/sys/user/{name}" if n % 2 == 0 else name for n, name in enumerate(names)]]
    assert made.rlimits == {11: Rlimit(soft=500, hard=500)}
    for limits, expected in ((Limits(), 500), (Limits(limit_sigpending=3000), 3000)):
        plan = make_plan(JobSpec(argv=("true",), sandbox=strict(), limits=limits), replace(HOST, sandbox=facts), make_environment({}))
        assert [(hook.a, hook.b) for hook in plan.hooks if hook.stage == "rlimit" and hook.arg == 11] == [(expected, expected)]


def test_a_job_can_have_half_as_many_descriptors_under_way_as_its_starter() -> None:
    """The kernel sends none for a user that has more under way than the sender may open, and each start sends one."""
    for soft, expected in ((1024, 1024), (9000, 4000)):
        assert steps(strict(), replace(FACTS, hard_rlimits={7: 8000}, soft_nofile=soft)).rlimits == {7: Rlimit(soft=expected, hard=4000)}


def test_a_job_does_not_inherit_a_leave_for_better_or_real_time_priority() -> None:
    facts = replace(FACTS, hard_rlimits={13: 40, 14: INFINITY})
    assert steps(strict(), facts).rlimits == {13: Rlimit(soft=0, hard=0), 14: Rlimit(soft=0, hard=0)}
    assert steps(strict(), replace(FACTS, hard_rlimits={13: 0, 14: 0})).rlimits == {}


@pytest.mark.parametrize(("own", "given", "expected"), [(-900, None, ["0"]), (-900, -500, ["-500"]), (0, None, []), (300, None, [])])
def test_a_job_does_not_inherit_protection_from_the_hosts_oom_killer(own: int, given: int | None, expected: list[str]) -> None:
    made = steps(strict(), replace(FACTS, oom_score_adjust=own), oom_score_adjust=given)
    assert [hook.data.decode() for hook in made.setup if hook.stage == "oom_score_adjust"] == expected


def test_layers_of_overlays_are_named_as_they_are() -> None:
    made = steps(strict(overlay=[{"source": "/a:b\\c", "target": "/t", "changes": "keep", "upper": "/u\\v"}]))
    assert texts(made, "overlay") == [["t", "/a:b\\c", "/u\\v/changes", "/u\\v/work"]]


def test_landlock_is_left_out_with_a_warning_or_refused() -> None:
    old = replace(FACTS, landlock_abi=0)
    assert steps(strict(), old).warnings and "landlock" not in [hook.stage for hook in steps(strict(), old).fence]
    with pytest.raises(UnsupportedError, match="Landlock"):
        steps(strict(landlock=True), old)
    assert not steps(strict(landlock=False)).warnings


@pytest.mark.parametrize(
    ("abi", "size", "handled", "scoped"),
    [(1, 8, 13, 0), (2, 8, 14, 0), (3, 8, 15, 0), (4, 16, 15, 0), (5, 16, 16, 0), (6, 24, 16, 3), (9, 24, 16, 3)],
)
def test_each_kernel_is_asked_for_what_it_knows(abi: int, size: int, handled: int, scoped: int) -> None:
    fence = next(hook for hook in steps(strict(), replace(FACTS, landlock_abi=abi)).fence if hook.stage == "landlock")
    assert (fence.arg, fence.a, fence.b) == (size, (1 << handled) - 1, scoped)


def test_what_the_host_lacks_is_named() -> None:
    with pytest.raises(UnsupportedError, match="no user namespaces here"):
        steps(strict(), replace(FACTS, missing="no user namespaces here"))
    assert steps(Sandbox(level="basic"), replace(FACTS, missing="x", mount_capable=True)).namespaces == 0x20000
    with pytest.raises(UnsupportedError):
        steps(Sandbox(level="basic"), replace(FACTS, missing="x"))
    assert steps(Sandbox(level="basic", private_tmp=False), replace(FACTS, missing="x")).namespaces == 0


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ConfigError, match="preexec"):
        steps(strict(), preexec=(print,))
    with pytest.raises(ConfigError, match="user"):
        steps(strict(), credentials=Credentials(uid=1, gid=1))


def test_root_maps_another_user_beside_itself() -> None:
    made = steps(strict(), replace(FACTS, uid=0, gid=0), credentials=Credentials(uid=99, gid=98, groups=(1, 2)))
    assert made.user_map == ("0 0 1\n1000 99 1\n", "0 0 1\n1000 98 1\n")
    assert made.credentials == Credentials(uid=1000, gid=1000, groups=())
    assert made.setup[0].stage != "user_map"


def test_the_disk_can_be_held_only_where_everything_is_counted() -> None:
    assert disk_problem(JobSpec(argv=("x",))) and disk_problem(JobSpec(argv=("x",), sandbox=Sandbox(level="basic")))
    assert disk_problem(JobSpec(argv=("x",), sandbox=strict(bind=["/a"], overlay=["/b"]))) is None
    assert disk_problem(JobSpec(argv=("x",), sandbox=strict(bind=["/a:/a:rw"])))
    assert disk_problem(JobSpec(argv=("x",), sandbox=strict(overlay=[{"source": "/a", "changes": "keep", "upper": "/u"}])))


sandboxes = st.builds(
    Sandbox,
    level=st.just("strict"),
    network=st.sampled_from(["none", "loopback", "host"]),
    bind=st.lists(st.sampled_from(["/a:/x", "/b:/y:rw", "/c:/x/z", "/d:/usr/e", "/tmp/f"]), unique=True, max_size=3),
    time_namespace=st.booleans(),
    hostname=st.sampled_from(["a", "b.c"]),
    uid=st.integers(0, 70000),
) | st.builds(Sandbox, level=st.just("basic"), bind=st.lists(st.sampled_from(["/tmp/a", "/b:/b:rw"]), unique=True))


@relaxed
@given(sandboxes, st.sampled_from([HOST, replace(BARE_HOST, sandbox=FACTS)]), st.booleans())
def test_every_plan_of_a_sandbox_can_be_explained_and_keeps_its_order(sandbox: Sandbox, host: Any, session: bool) -> None:
    plan = make_plan(JobSpec(argv=("true",), sandbox=sandbox, start_new_session=session), host, make_environment({b"SECRET": b"x"}))
    stages = [hook.stage for hook in plan.hooks]
    assert stages.index("bounding_set") < stages.index("capabilities") < stages.index("no_new_privileges") < stages.index("landlock")
    assert stages.index("close_fds") < stages.index("working_directory") < stages.index("landlock")
    assert "session" in stages and b"SECRET" not in plan.env
    assert (plan.setup_count > 0) == (sandbox.level == "strict")
    assert plan.enforcement["sandbox"].startswith(sandbox.level)
    assert all(hook.text in explain(plan) for hook in plan.hooks)
    if plan.setup_count and host.cgroup is not None:
        assert (plan.cgroup_leaf, plan.cgroup_payload) == ("init", "box")


def test_the_tree_of_a_confined_job_keeps_the_init_helper_out_of_its_limits() -> None:
    """Without limits the box needs nothing below it."""

    def made_for(**limits: Any) -> list[str]:
        spec = JobSpec(argv=("true",), sandbox=Sandbox(level="strict"), limits=Limits(**limits))
        plan = make_plan(spec, HOST, make_environment({}))
        assert (plan.cgroup_leaf, plan.cgroup_box) == ("init", "box")
        made = [step.path for step in plan.cgroup_steps if not step.text]
        assert plan.cgroup_payload == made[-1]
        return made

    assert made_for() == ["", "init", "box"]
    assert made_for(memory_max="64M") == ["", "init", "box", "box/payload"]


def test_many_binds_are_planned_in_proportion_to_their_number() -> None:
    """Each is compared with what it lies in, not with all that is shown before it."""

    def looks(count: int) -> int:
        sandbox = strict(bind=[f"/srv:/data/{number}" for number in range(count)])
        for bind in sandbox.bind:
            set_field(bind, "target", Counted(bind.target))
        Counted.looks = 0
        made = steps(sandbox)
        assert len(texts(made, "bind")) >= count
        return Counted.looks

    assert 0 < looks(1000) < 15 * looks(100)
