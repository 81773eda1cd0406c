# SPDX-License-Identifier: Apache-2.0
"""Host: the facts about this machine that a plan depends on, as plain values.

Read once by ``supervisor.kernel.probe``; everything that decides takes them as an argument, so every
decision can be tested for every kind of host.
"""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

#: Controllers a job may need, in the order they are enabled.
CONTROLLERS: Final = ("cpu", "cpuset", "io", "memory", "pids")


@value
class CgroupFacts:
    """The cgroup subtree we may use: where it came from, its controllers, its kernel's files."""

    source: str  # "path given", "delegated", "user scope", "container", "root"
    path: str
    controllers: frozenset[str] = frozenset()
    has_kill: bool = True  # cgroup.kill, Linux 5.14
    has_freeze: bool = True  # cgroup.freeze, Linux 5.2
    has_swap_max: bool = True  # memory.swap.max: the kernel accounts swap


@value
class SystemPlace:
    """A directory, file or link of this system that programs need: what a strict sandbox shows of the host."""

    kind: str  # "directory", "file" or "link"
    path: str
    source: str  # where it really is; of a link, its text
    network: bool = False  # only programs with a network need it


@value
class SandboxFacts:
    """What a sandbox depends on. ``missing`` says why there can be no namespaces, empty when nothing speaks against them."""

    uid: int = 0
    gid: int = 0
    mount_capable: bool = True  # CAP_SYS_ADMIN: a mount namespace without a user namespace
    landlock_abi: int = 0  # 0: the kernel has none
    missing: str = ""
    hard_rlimits: Mapping[int, int | float] = {}
    soft_nofile: int | float = float("inf")
    oom_score_adjust: int = 0
    user_counts: Mapping[str, int] = {}  # sysctl of a user namespace -> what the host allows each user
    system: tuple[SystemPlace, ...] = ()


@value
class Host:
    """What the planner must know. ``cgroup`` is None where no subtree could be had, ``no_cgroup`` says why."""

    machine: str = "x86_64"
    page_size: int = 4096
    processors: int = 1  # that we may use (sched_setaffinity)
    processors_online: int = 1  # that a job may come to use: it inherits our affinity, and changes it as it likes
    memory_total_bytes: int = 0
    tasks_total: int = 32768
    effective_uid: int = 0
    capable_resource: bool = True  # CAP_SYS_RESOURCE: may raise hard rlimits
    hard_rlimits: Mapping[int, int | float] = {}
    block_devices: Mapping[str, str] = {}  # path as given -> "major:minor"
    stay_processors: int = 0  # all that are online: who may run on so many is bound to none, and may bind itself; 0: nobody shall
    syscall_filter: bool = False  # a seccomp filter is inherited from our own surroundings
    ignored_signals: int = 0  # bit n-1: signal n was ignored before Python started; jobs inherit that
    cgroup: CgroupFacts | None = None
    no_cgroup: str = ""
    tree_holder: bool = True  # the init helper is installed
    sandbox: SandboxFacts | None = None  # read when the first job asks for a sandbox
