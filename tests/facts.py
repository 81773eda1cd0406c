# SPDX-License-Identifier: Apache-2.0
"""What this host offers, by probing it: each name of :data:`PROBES` is something a test may require."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from supervisor.kernel import native
from supervisor.model.host import Host
from supervisor.runtime.oneshot import Ground

NOBODY = 65534


@functools.cache
def host() -> Host:
    """The facts as a supervisor of this process would read them; its place in the cgroup tree is given back."""
    ground = Ground()
    ground.close()
    return ground.host


@functools.cache
def cgroup_base() -> Path | None:
    """Where supervisors of this process make their directory, or None without cgroups."""
    facts = host().cgroup
    return None if facts is None else Path(facts.path).parent


@functools.cache
def missing(name: str) -> str:
    """Why ``name`` cannot be had here; empty when it can. Raises KeyError for a name nobody knows."""
    return PROBES[name]()


def _cgroup() -> str:
    return "" if host().cgroup is not None else host().no_cgroup


def _controller(name: str) -> Callable[[], str]:
    def probe() -> str:
        facts = host().cgroup
        if facts is None:
            return host().no_cgroup
        return "" if name in facts.controllers else f"the controller {name!r} is not available in {facts.path}"

    return probe


def _swap() -> str:
    if reason := missing("memory"):
        return reason
    facts = host().cgroup
    assert facts is not None
    if not facts.has_swap_max:
        return "this kernel does not account swap"
    return "" if len(Path("/proc/swaps").read_text().splitlines()) > 1 else "no swap space is active"


def _root() -> str:
    return "" if os.geteuid() == 0 else "not root"


def _user() -> str:
    return "" if os.geteuid() != 0 else "root is no ordinary user"


def _resource() -> str:
    return "" if host().capable_resource else "no CAP_SYS_RESOURCE"


def _no_resource() -> str:
    return "CAP_SYS_RESOURCE may do it" if host().capable_resource else ""


def ordinary_environment() -> dict[str, str]:
    """What a process of an ordinary user needs to find the product and what it stands on."""
    import cffi  # its folder is where the product's own requirements are

    import supervisor

    places = [Path(supervisor.__file__).parent.parent, Path(cffi.__file__).parent.parent]
    return {**os.environ, "PYTHONPATH": ":".join(str(place) for place in places), "PYTHONDONTWRITEBYTECODE": "1"}


@functools.cache
def ordinary_python() -> str:
    """An interpreter that an ordinary user may run with the product in it, or an empty text."""
    code = "import supervisor._native, os; raise SystemExit(os.geteuid() == 0)"
    who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    for path in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""):
        try:
            done = subprocess.run([path, "-c", code], capture_output=True, check=False, cwd="/", env=ordinary_environment(), **who)
        except OSError:
            continue
        if done.returncode == 0:
            return path
    return ""


def _ordinary() -> str:
    return "" if ordinary_python() else "no interpreter that an ordinary user may run can load the product"


def _unshares(*options: str) -> Callable[[], str]:
    def probe() -> str:
        if shutil.which("unshare") is None:
            return "unshare(1) is not installed"
        done = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stderr.strip()

    return probe


def _installed(program: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(program) else f"{program} is not installed"


def _landlock(version: int, words: str) -> Callable[[], str]:
    return lambda: "" if native.landlock_abi() >= version else words


def _tty() -> str:
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError as error:
        return f"no pseudo-terminal: {error.strerror}"
    return ""


def _compiles(*flags: str) -> Callable[[], str]:
    def probe() -> str:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            return "no C compiler"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "made")
            command = [compiler, *flags, "-x", "c", "-", "-o", str(made)]
            done = subprocess.run(command, input=b"int main(void) { return 0; }", capture_output=True, check=False)
            if done.returncode != 0:
                return f"{' '.join(command[:1] + list(flags))}: {done.stderr.decode()[-200:]}"
            ran = subprocess.run([str(made)], capture_output=True, check=False)
            return "" if ran.returncode == 0 else "what the compiler makes does not run: " + ran.stderr.decode()[-200:]

    return probe


def _disk() -> str:
    if reason := missing("io"):
        return reason
    path = os.environ.get("RINGFENCE_TEST_DISK") or ("/scratch" if missing("vm") == "" else "")
    if not path:
        return "RINGFENCE_TEST_DISK names no folder on a block device"
    number = os.stat(path).st_dev
    if not os.path.exists(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"):
        return f"{path} is not on a block device"
    return "" if os.access(path, os.W_OK) else f"{path} is not writable"


def test_disk() -> str:
    """The folder for tests of the io controller."""
    return os.environ.get("RINGFENCE_TEST_DISK") or "/scratch"


test_disk.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says


def _vm() -> str:
    return "" if os.environ.get("RINGFENCE_VM") == "1" else "not inside the virtual machine"


def _hugetlbfs() -> str:
    try:
        os.close(os.memfd_create("probe", os.MFD_CLOEXEC | os.MFD_HUGETLB))
    except OSError as error:
        return f"no memory with huge pages can be made: {error.strerror}"
    return ""


def _prctl() -> str:
    try:
        import prctl  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return "python-prctl is not installed"
    return ""


def _processors() -> str:
    return "" if len(os.sched_getaffinity(0)) > 1 else "one processor only"


def _core() -> str:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    return "" if pattern and not pattern.startswith(("|", "/")) else f"core dumps go elsewhere: {pattern!r}"


def runexec_path() -> str:
    """BenchExec's runexec, of this environment or installed; empty when it is not there."""
    beside = Path(sys.executable).with_name("runexec")
    return str(beside) if beside.exists() else shutil.which("runexec") or ""


def _isolate() -> str:
    """The real one: installed, set up, and able to run a program in a box here."""
    if not shutil.which("isolate"):
        return "isolate is not installed"
    box = ["isolate", "--box-id=998"]
    try:
        subprocess.run([*box, "--init"], check=True, capture_output=True, timeout=20)
        subprocess.run([*box, "--run", "--", "/bin/true"], check=True, capture_output=True, timeout=20)
        subprocess.run([*box, "--cleanup"], check=True, capture_output=True, timeout=20)
    except subprocess.CalledProcessError as error:
        return f"isolate does not work here: {error.stderr.decode(errors='replace').strip()[-200:]}"
    return ""


PROBES: dict[str, Callable[[], str]] = {
    "cgroup": _cgroup,
    **{name: _controller(name) for name in ("cpu", "cpuset", "io", "memory", "pids")},
    "swap": _swap,
    "disk": _disk,
    "root": _root,
    "user": _user,
    "resource": _resource,
    "no_resource": _no_resource,
    "ordinary": _ordinary,
    "userns": _unshares("--user", "--map-root-user"),
    "mount": _unshares("--user", "--map-root-user", "--mount"),
    "landlock": _landlock(1, "this kernel has no Landlock"),
    "landlock_scopes": _landlock(6, "this kernel's Landlock has no scopes (Linux 6.12)"),
    "hugetlbfs": _hugetlbfs,
    "bwrap": _installed("bwrap"),
    "systemd_notify": _installed("systemd-notify"),
    "tty": _tty,
    "cc": _compiles(),
    "cxx": _installed("g++"),
    "sanitizers": _compiles("-fsanitize=address,undefined"),
    "thread_sanitizer": _compiles("-fsanitize=thread"),
    "vm": _vm,
    "prctl": _prctl,
    "processors": _processors,
    "core": _core,
    "isolate": _isolate,
    "runexec": lambda: "" if runexec_path() else "BenchExec is not installed",
    "uvloop": lambda: "" if find_spec("uvloop") is not None else "uvloop is not installed",
    "x86_64": lambda: "" if os.uname().machine == "x86_64" else f"this is {os.uname().machine}",
    "network": lambda: "the virtual machine has no network" if missing("vm") == "" else "",
}
