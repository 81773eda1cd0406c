# SPDX-License-Identifier: Apache-2.0
"""Read the facts about this host. Asks the kernel for each thing, never a version string."""

from __future__ import annotations

import os

from supervisor.kernel import native
from supervisor.model.host import Host, SandboxFacts, SystemPlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from supervisor.model.host import CgroupFacts
    from supervisor.model.limits import Limits

CAP_SYS_RESOURCE: Final = 24


def read_host(cgroup: CgroupFacts | None, no_cgroup: str = "") -> Host:
    """The facts, with the cgroup subtree that was found (or why there is none)."""
    status = _status()
    capable = bool(int(status.get("CapEff", "0"), 16) >> CAP_SYS_RESOURCE & 1)
    filtered = status.get("Seccomp", "0") == "2"
    return Host(
        machine=os.uname().machine,
        page_size=os.sysconf("SC_PAGE_SIZE"),
        processors=len(os.sched_getaffinity(0)),
        processors_online=os.sysconf("SC_NPROCESSORS_ONLN"),
        memory_total_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        tasks_total=_read_number("/proc/sys/kernel/pid_max", 32768),
        effective_uid=os.geteuid(),
        capable_resource=capable,
        hard_rlimits={} if capable else _hard_rlimits(),
        stay_processors=0 if filtered else _online(),  # a service manager's filter may kill whoever binds itself
        syscall_filter=filtered,
        ignored_signals=int(status.get("SigIgn", "0"), 16),
        cgroup=cgroup,
        no_cgroup=no_cgroup,
    )


#: What programs need of the host's file system, in the order of their paths' depth.
SYSTEM: Final = tuple(
    "/usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc/alternatives /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d "
    "/etc/localtime /nix/store /gnu/store /etc/ssl/certs /etc/ssl/openssl.cnf /etc/ca-certificates /etc/pki/tls/certs".split()
)
NETWORK_SYSTEM: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/services", "/etc/protocols")
LANDLOCK_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
CAP_SYS_ADMIN: Final = 21
#: Counts that a user namespace may have less of, and where the host's own limit is. (Those of fanotify are behind the filter.)
USER_COUNTS: Final = (
    ("max_inotify_instances", "/proc/sys/fs/inotify/max_user_instances"),
    ("max_inotify_watches", "/proc/sys/fs/inotify/max_user_watches"),
)


def read_sandbox_facts() -> SandboxFacts:
    """What a sandbox on this host depends on; asked once, when the first job wants one."""
    capable = bool(int(_status().get("CapEff", "0"), 16) >> CAP_SYS_ADMIN & 1)
    places = [place for path in SYSTEM if (place := _system_place(path)) is not None]
    for path in NETWORK_SYSTEM:
        real = os.path.realpath(path)
        if os.path.exists(real):
            places.append(SystemPlace(kind="file", path=path, source=real, network=True))
    return SandboxFacts(
        uid=os.geteuid(),
        gid=os.getegid(),
        mount_capable=capable,
        landlock_abi=max(0, native.landlock_abi()),
        missing=_missing_namespaces(capable),
        hard_rlimits=_hard_rlimits(),
        oom_score_adjust=_read_number("/proc/self/oom_score_adj", 0),
        soft_nofile=descriptors if (descriptors := os.sysconf("SC_OPEN_MAX")) >= 0 else float("inf"),
        user_counts={name: most for name, path in USER_COUNTS if (most := _read_number(path, 0)) > 0},
        system=tuple(places),
    )


def _system_place(path: str) -> SystemPlace | None:
    try:
        mode = os.lstat(path).st_mode & 0o170000
    except OSError:
        return None
    if mode == 0o120000:
        return SystemPlace(kind="link", path=path, source=os.readlink(path))
    return SystemPlace(kind="directory" if mode == 0o040000 else "file", path=path, source=path)


def _missing_namespaces(capable: bool) -> str:
    """Why there can be no user namespace here, as far as it can be read; empty when nothing speaks against it."""
    for name in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup"):
        if not os.path.exists(f"/proc/self/ns/{name}"):
            return f"this kernel has no {name} namespaces"
    if _read_number("/proc/sys/user/max_user_namespaces", 1) == 0:
        return "user namespaces are forbidden here (user.max_user_namespaces is 0): sysctl user.max_user_namespaces=10000"
    if capable:
        return ""
    if _read_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0:
        return "ordinary users may not make user namespaces here: sysctl kernel.unprivileged_userns_clone=1"
    if _read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1:
        return (
            "AppArmor keeps ordinary users from user namespaces here: allow it in a profile for this program, "
            "or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return ""


def _status() -> dict[str, str]:
    lines = native.read_path("/proc/self/status").splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def _hard_rlimits() -> dict[int, int | float]:
    hard = native.ffi.new("uint64_t[16]")  # the module resource costs 0.3 ms to load
    native.check(native.lib.sup_hard_rlimits(hard), "getrlimit")
    return {number: float("inf") if amount == native.MAX_UINT64 else amount for number, amount in enumerate(hard)}


def _read_number(path: str, default: int) -> int:
    try:
        return int(native.read_path(path))
    except (OSError, ValueError):
        return default


def _online() -> int:
    """How many processors are online, 0 where that is not told: sysconf(3) of some C libraries tells how many are our own."""
    try:
        ranges = [part.split("-") for part in native.read_path("/sys/devices/system/cpu/online").split(",")]
        return sum([int(ends[-1]) - int(ends[0]) + 1 for ends in ranges])
    except (OSError, ValueError):
        return 0


def own_environment() -> Mapping[bytes, bytes]:
    """Our own environment as bytes; ``os.environb`` decodes and encodes every variable again, its dict does not."""
    raw = getattr(os.environb, "_data", None)
    return raw if isinstance(raw, dict) else dict(os.environb)


def block_devices(limits: Limits) -> dict[str, str]:
    """``major:minor`` of the whole disk behind every path that the I/O limits name; unknown ones are left out."""
    named = [limits.io_read_bandwidth_max, limits.io_write_bandwidth_max, limits.io_read_iops_max, limits.io_write_iops_max]
    if named == [None] * 4:
        return {}
    found = {}
    for path in {limit.path for given in named for limit in given or ()}:
        device = _block_device(path)
        if device is not None:
            found[path] = device
    return found


def _block_device(path: str) -> str | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    number = info.st_rdev if info.st_mode & 0o170000 == 0o060000 else info.st_dev
    folder = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not os.path.exists(folder):
        return None
    if os.path.exists(folder + "/partition"):  # io.max takes whole disks only
        folder = os.path.dirname(os.path.realpath(folder))
    return native.read_path(folder + "/dev").strip()
