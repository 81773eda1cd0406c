"""Runs in the guest, as each kind of user: prints what the guest offers and fails when something is missing."""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = {"cpuset", "cpu", "io", "memory", "pids"}
REQUIREMENTS = Path("/opt/wheels/requirements.txt")
MEBI = 1 << 20
CLOCK_SECONDS = 120

failures: list[str] = []


def check(name: str, seen: object, *, good: bool) -> None:
    print(f"{'ok  ' if good else 'FAIL'} {name}: {seen}", flush=True)
    if not good:
        failures.append(name)


def output(*command: str) -> str:
    """Standard output of a command; its status and standard error when it failed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()}"


def own_cgroup() -> Path:
    return CGROUPS / Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()


def controllers(name: str, folder: Path) -> None:
    seen = (folder / "cgroup.controllers").read_text().split()
    check(name, " ".join(seen), good=set(seen) >= CONTROLLERS)


def delegated() -> None:
    """The step's own cgroup can really be divided, with limits in its children."""
    mine = own_cgroup()
    controllers(f"controllers of {mine.relative_to(CGROUPS)}", mine)
    leaf, box = mine / "leaf", mine / "box"
    for folder in (leaf, box):
        folder.mkdir()
    # The shell that started us is in there too, and inner nodes may hold no process.
    for pid in (mine / "cgroup.procs").read_text().split():
        (leaf / "cgroup.procs").write_text(pid)
    (mine / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    check("subtree control", (mine / "cgroup.subtree_control").read_text().strip(), good=True)
    wanted = {"memory.max": "52428800", "pids.max": "20", "cpu.max": "50000 100000", "cpuset.cpus": "0"}
    for file, value in wanted.items():
        (box / file).write_text(value)
        check(f"child {file}", (box / file).read_text().strip(), good=(box / file).read_text().strip() == value)
    device = Path("/scratch").stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    (box / "io.max").write_text(f"{number} wbps=1048576")
    check("child io.max", (box / "io.max").read_text().strip(), good="wbps=1048576" in (box / "io.max").read_text())
    files = ("cgroup.kill", "cgroup.freeze", "memory.peak", "memory.pressure")
    seen = [name for name in files if (box / name).exists()]
    check("cgroup files", " ".join(seen), good=len(seen) == len(files))


def as_root(host_time: float) -> None:
    apart = time.time() - host_time
    check("clock, seconds after the host's", round(apart, 1), good=abs(apart) < CLOCK_SECONDS)
    check("process 1", Path("/proc/1/comm").read_text().strip(), good=Path("/proc/1/comm").read_text() == "systemd\n")
    check("versions", f"Linux {platform.release()}, {output('systemctl', '--version').splitlines()[0]}", good=True)
    state = output("systemctl", "is-system-running")
    check("system", state, good=state == "running")
    if state != "running":
        print(output("systemctl", "--failed", "--no-legend"))
    controllers("controllers", CGROUPS)
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in Path("/proc/meminfo").read_text().splitlines()}
    check("memory, MiB", memory["MemTotal"], good=memory["MemTotal"] > 1900)
    check("swap, MiB", memory["SwapTotal"], good=memory["SwapTotal"] > 250)
    check("processors", os.cpu_count(), good=os.cpu_count() == 2)
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if " /scratch " in line]
    check("/scratch", " ".join(mounts[0][:4]) if mounts else None, good=bool(mounts) and mounts[0][0] == "/dev/vdc")
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "-p", "Delegate=yes")
    inside = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)"
    seen = output(*unit, "-p", "MemoryMax=50M", "sh", "-c", f"{inside}/memory.max")
    check("systemd-run MemoryMax=50M", seen, good=seen == str(50 * MEBI))
    seen = output(*unit, "-p", "IOWriteBandwidthMax=/dev/vdc 1M", "sh", "-c", f"{inside}/io.max")
    check("systemd-run IOWriteBandwidthMax", seen, good="wbps=1000000" in seen)
    eat = "x = bytearray(200 << 20)"
    limits = ("-p", "MemoryMax=50M", "-p", "MemorySwapMax=0")
    seen = output(*unit, *limits, sys.executable, "-c", eat)
    check("200M in 50M", seen, good=seen.startswith("status"))
    lsm = Path("/sys/kernel/security/lsm").read_text()
    check("security modules", lsm, good="landlock" in lsm)
    check("pressure", Path("/proc/pressure/memory").read_text().splitlines()[0], good=True)
    seen = output("sh", "-c", "echo 'int main(void){return 0;}' | gcc -xc - -o /tmp/check && /tmp/check && echo works")
    check("gcc", seen, good=seen == "works")
    check("python", platform.python_version(), good=sys.prefix == "/opt/venv")
    names = [match.group() for match in re.finditer(r"^[A-Za-z][\w.-]*", REQUIREMENTS.read_text(), re.MULTILINE)]
    seen = " ".join(f"{name} {metadata.version(name)}" for name in names)
    check("distributions", seen, good=bool(names))
    check("python3-prctl", importlib.import_module("prctl").__file__, good=True)


def user_manager() -> None:
    check("user", os.getuid(), good=os.getuid() == 1000)
    for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        check(name, os.environ.get(name), good=bool(os.environ.get(name)))
    state = output("systemctl", "--user", "is-system-running")
    check("user manager", state, good=state == "running")
    lingering = output("loginctl", "show-user", "tester", "--property=Linger", "--value")
    check("lingering", lingering, good=lingering == "yes")
    controllers("user manager's controllers", CGROUPS / "user.slice/user-1000.slice/user@1000.service")
    scope = ("systemd-run", "--user", "--quiet", "--scope", "--collect", "-p", "Delegate=yes")
    seen = output(*scope, "true")
    check("systemd-run --user --scope", seen or "works", good=not seen)
    seen = output(*scope, "sh", "-c", "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.controllers")
    check("controllers in a user scope", seen, good=set(seen.split()) >= CONTROLLERS)


def main() -> int:
    kind = sys.argv[1]
    print(f"--- as {kind}, in {own_cgroup()}")
    if kind == "root":
        as_root(float(sys.argv[2]))
    else:
        user_manager()
    if kind == "login":
        session = os.environ.get("XDG_SESSION_ID")
        check("login session", f"{session} {own_cgroup().name}", good=own_cgroup().name == f"session-{session}.scope")
    else:
        delegated()
    if failures:
        print(f"missing as {kind}: {', '.join(failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
