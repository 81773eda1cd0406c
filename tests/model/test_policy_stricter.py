# SPDX-License-Identifier: Apache-2.0
"""A policy's sandbox and what the caller asks for: neither is loosened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import ConfigError, Policy, Sandbox
from supervisor.model.policy.compare import LOOSENED, compare
from supervisor.model.policy.stricter import sandbox_for, stricter


@st.composite
def sandboxes(draw: Any) -> Sandbox:
    level = draw(st.sampled_from(["none", "basic", "strict"]))
    fields: dict[str, Any] = {"level": level}
    if level == "strict":
        fields["network"] = draw(st.sampled_from(["none", "loopback", "host"]))
        fields["tmp_size"] = draw(st.sampled_from(["1M", "2M"]))
    if level != "none":
        fields["landlock"] = draw(st.sampled_from([None, True, False]))
        fields["keep_env"] = draw(st.lists(st.sampled_from("ab"), unique=True))
        fields["syscalls_deny"] = draw(st.lists(st.sampled_from(["mount", "bpf"]), unique=True))
        fields["syscalls"] = draw(st.sampled_from(["default", "compute"]))
        fields["syscalls_allow"] = draw(st.lists(st.sampled_from(["mount", "bpf"]), unique=True))
        fields["syscalls_kill"] = draw(st.booleans())
    return Sandbox(**fields)


@given(sandboxes(), sandboxes())
def test_both_together_are_no_looser_than_either(a: Sandbox, b: Sandbox) -> None:
    both = stricter(a, b)
    for one in (a, b):
        looser = [item for item in compare(Policy(sandbox=one), Policy(sandbox=both)) if item.kind == LOOSENED]
        assert not looser


@given(sandboxes())
def test_a_sandbox_with_itself_is_itself(a: Sandbox) -> None:
    assert stricter(a, a) == a


def test_presets_of_which_none_is_stricter_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not combine"):
        sandbox_for(Sandbox(level="strict", syscalls="python"), {"syscalls": "compute"})
    assert sandbox_for(Sandbox(level="strict", syscalls="python"), "strict").syscalls == "python"


def test_binds_of_both_are_there_and_the_stricter_sides_wins() -> None:
    policy = Sandbox(level="strict", bind=["/srv"])
    both = sandbox_for(policy, {"bind": ["/data:/srv:rw", "/opt"]})
    assert [(bind.source, bind.target, bind.mode) for bind in both.bind] == [("/srv", "/srv", "ro"), ("/opt", "/opt", "ro")]
    assert both.level == "strict"


def test_no_sandbox_asked_for_does_not_lift_the_policys() -> None:
    policy = Sandbox(level="strict")
    assert sandbox_for(policy, "none").level == sandbox_for(policy, None).level == "strict"
    assert sandbox_for(None, "basic").level == sandbox_for(Sandbox(level="basic"), None).level == "basic"
