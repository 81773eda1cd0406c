# SPDX-License-Identifier: Apache-2.0
"""doctor: prove each mechanism live, by a small job that fights against it, and say how to get the rest."""

from __future__ import annotations

import os
import sys

from supervisor.errors import SupervisorError, UnsupportedError
from supervisor.kernel import native
from supervisor.model.limits import Limits
from supervisor.model.outcome import Outcome, Verdict
from supervisor.model.spec import COLLECT, JobSpec
from supervisor.model.value import value
from supervisor.runtime.oneshot import Ground, run_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final

PROVEN, MISSING, OPTIONAL, FAILED = "proven", "missing", "optional", "FAILED"

GROW: Final = "b = []\nwhile len(b) < 96: b.append(bytearray(1 << 20))"
FORKS: Final = "import os, sys\nfor n in range(64):\n    if os.fork() == 0:\n        import signal; signal.pause()"
SPIN: Final = "while True: pass"
BURN: Final = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass"
BIG_FILE: Final = (
    "import signal, tempfile\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
    "f = tempfile.TemporaryFile()\nf.write(b'x' * (1 << 20))\nf.flush()"
)
DAEMON: Final = (
    "import os, signal\nr, w = os.pipe()\n"
    "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
    "    signal.signal(15, signal.SIG_IGN)\n    os.write(w, b'%d' % os.getpid())\n    os.close(w)\n    signal.pause()\n"
    "os.close(w)\nprint(os.read(r, 20).decode())"
)


@value
class Finding:
    """One mechanism: whether it was proven, by what, and what to do where it is missing."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def examine(cgroup: str = "") -> Iterator[Finding]:
    """Yield one finding after another; each runs a job of a fraction of a second."""
    ground = Ground(cgroup)
    try:
        yield _place(ground)
        for name, check in _CHECKS:
            yield _examined(name, check, ground)
        yield from _surroundings()
    finally:
        ground.close()


def _place(ground: Ground) -> Finding:
    facts = ground.host.cgroup
    if facts is None:
        return Finding(name="cgroup", status=MISSING, detail=ground.host.no_cgroup, remedy=_cgroup_remedy())
    names = " ".join(sorted(facts.controllers)) or "none"
    return Finding(name="cgroup", status=PROVEN, detail=f"{facts.path} (source: {facts.source}); controllers: {names}")


def _cgroup_remedy() -> str:
    if os.geteuid() == 0:
        return "in a container: --cgroupns=private with a writable /sys/fs/cgroup; on a host: mount cgroup v2"
    return (
        "log in through systemd (loginctl enable-linger makes it last), or run inside "
        "'systemd-run --user --scope -p Delegate=yes', or name a writable cgroup in RINGFENCE_CGROUP"
    )


def _controller_remedy(ground: Ground) -> str:
    facts = ground.host.cgroup
    if facts is None:
        return _cgroup_remedy()
    if os.path.isdir("/sys/fs/cgroup/memory") or os.path.isdir("/sys/fs/cgroup/pids"):
        return "the controllers are held by cgroup v1: boot with 'systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all'"
    if os.geteuid() != 0:
        return (
            "as root: mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' "
            "> /etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload, then log in again"
        )
    return "enable them in the parent's cgroup.subtree_control, or set Delegate=yes on the unit this runs in"


def _examined(name: str, check: Callable[[Ground], str], ground: Ground) -> Finding:
    try:
        return Finding(name=name, status=PROVEN, detail=check(ground))
    except UnsupportedError as error:
        remedy = "" if error.feature.startswith("sandbox") else _controller_remedy(ground)  # what is missing says it itself
        return Finding(name=name, status=MISSING, detail=error.missing, remedy=remedy)
    except _Unproven as error:
        return Finding(name=name, status=FAILED, detail=str(error), remedy="please report this with 'ringfence doctor --json'")
    except (SupervisorError, OSError) as error:
        return Finding(name=name, status=FAILED, detail=str(error))


class _Unproven(Exception):
    """The job was not stopped as it should have been."""


def _python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", script)


def _run(ground: Ground, script: str, **limits: Any) -> Outcome:
    limits.setdefault("wall_time_max", "20s")
    return run_spec(JobSpec(argv=_python(script), limits=Limits(**limits), stdout=COLLECT, stderr=COLLECT), ground)


def _expect(outcome: Outcome, verdict: str) -> Outcome:
    if outcome.verdict != verdict:
        raise _Unproven(f"expected {verdict}, got {outcome.summary()}")
    return outcome


def _tree(ground: Ground) -> str:
    outcome = _expect(_run(ground, DAEMON), Verdict.OK)
    pid = int(outcome.stdout)
    if _alive(pid):
        raise _Unproven(f"a daemon of the job outlived it (pid {pid})")
    return f"a daemon that left its session and ignores SIGTERM was gone with its job ({outcome.enforcement['tree']})"


def _alive(pid: int) -> bool:
    try:
        return " (" in native.read_path(f"/proc/{pid}/stat") and ") Z " not in native.read_path(f"/proc/{pid}/stat")
    except OSError:
        return False


def _memory(ground: Ground) -> str:
    outcome = _expect(_run(ground, GROW, memory_max="32M"), Verdict.MEMORY_LIMIT)
    return f"a job growing to 96M was ended at 32M (peak {outcome.usage.memory_peak_bytes} bytes)"


def _tasks(ground: Ground) -> str:
    outcome = _expect(_run(ground, FORKS, tasks_max=16), Verdict.TASKS_LIMIT)
    return f"fork was refused after {outcome.usage.tasks_peak} tasks"


def _quota(ground: Ground) -> str:
    outcome = _expect(_run(ground, BURN, cpu_quota="20%"), Verdict.OK)
    if not outcome.usage.throttled_ns:
        raise _Unproven("the job was never throttled")
    return f"a busy job was held back for {outcome.usage.throttled_ns // 1_000_000} ms of {(outcome.usage.wall_ns or 0) // 1_000_000} ms"


def _cpuset(ground: Ground) -> str:
    cpu = min(os.sched_getaffinity(0))
    outcome = _expect(_run(ground, "import os; print(*os.sched_getaffinity(0))", allowed_cpus=str(cpu)), Verdict.OK)
    if outcome.stdout.split() != [str(cpu).encode()]:
        raise _Unproven(f"the job saw processors {outcome.stdout!r}")
    return f"the job saw processor {cpu} only"


def _weight(ground: Ground) -> str:
    _expect(_run(ground, "", cpu_weight=50), Verdict.OK)
    return "cpu.weight was set and read back"


def _io(ground: Ground) -> str:
    _expect(_run(ground, "", io_weight=50), Verdict.OK)
    return "io.weight was set and read back; io.max needs the disk it shall limit"


def _cpu_time(ground: Ground) -> str:
    outcome = _expect(_run(ground, SPIN, cpu_time_max="100ms"), Verdict.CPU_LIMIT)
    over = (outcome.usage.cpu_ns or 0) - 100_000_000
    return f"a spinning job was ended {over / 1e6:.1f} ms past 100 ms ({outcome.sources.get('cpu_ns', '?')})"


def _wall_time(ground: Ground) -> str:
    outcome = _expect(_run(ground, "import time; time.sleep(60)", wall_time_max="100ms"), Verdict.WALL_LIMIT)
    return f"a sleeping job was ended after {(outcome.usage.wall_ns or 0) / 1e6:.1f} ms of 100 ms"


def _output(ground: Ground) -> str:
    outcome = _expect(_run(ground, "import os\nwhile True: os.write(1, b'x' * 4096)", output_max="10000"), Verdict.OUTPUT_LIMIT)
    return f"a flood was cut at {len(outcome.stdout)} bytes"


def _file_size(ground: Ground) -> str:
    _expect(_run(ground, BIG_FILE, limit_fsize="64K"), Verdict.FILE_SIZE_LIMIT)
    return "a write past 64K ended the job (SIGXFSZ)"


def _descriptors(ground: Ground) -> str:
    script = "import os\ntry:\n    while True: last = os.open('/dev/null', os.O_RDONLY)\nexcept OSError: print(last)"
    outcome = _expect(_run(ground, script, limit_nofile=20), Verdict.OK)
    if int(outcome.stdout) != 19:
        raise _Unproven(f"the job opened descriptor {outcome.stdout!r}")
    return "descriptor 20 was refused"


#: What must not work in a strict sandbox; prints what did. $0 is our own process id.
ESCAPES: Final = """
kill -0 $0 2>/dev/null && echo "a signal to the outside"
test -e /root && echo "the host's files"
(: > /usr/ringfence-doctor) 2>/dev/null && echo "writing to the host's files"
(: > /proc/sys/kernel/hostname) 2>/dev/null && echo "writing to the host's settings"
grep -q '^CapBnd:[[:space:]]*0*$' /proc/self/status || echo "privileges"
test "$(grep -c : /proc/net/dev)" -gt 1 && echo "the host's network"
: > /tmp/x
"""


def _confined(ground: Ground, level: str, script: str) -> Outcome:
    from supervisor.model.sandbox import Sandbox

    spec = JobSpec(
        argv=("/bin/sh", "-c", script, str(os.getpid())),
        sandbox=Sandbox(level=level),
        limits=Limits(wall_time_max="20s"),
        stdout=COLLECT,
        stderr=COLLECT,
    )
    outcome = run_spec(spec, ground)
    if outcome.verdict == Verdict.SANDBOX_ERROR and outcome.error is not None:
        raise UnsupportedError(f"sandbox: {level}", outcome.error.message)
    return _expect(outcome, Verdict.OK)


def _strict(ground: Ground) -> str:
    outcome = _confined(ground, "strict", ESCAPES)
    if outcome.stdout:
        raise _Unproven(f"a strict sandbox let through: {outcome.stdout.decode('utf-8', 'replace').strip()}")
    latency = (outcome.usage.start_latency_ns or 0) / 1e6
    return f"six ways out were closed; built in {latency:.1f} ms ({outcome.enforcement['sandbox']})"


def _basic(ground: Ground) -> str:
    outcome = _confined(ground, "basic", 'test -z "$(ls -A /tmp)" && : > /tmp/x')
    return f"a job saw an empty /tmp ({outcome.enforcement['sandbox']})"


def _landlock(ground: Ground) -> str:
    abi = native.landlock_abi()
    if abi < 1:
        raise UnsupportedError("sandbox: landlock", "this kernel has no Landlock (Linux 5.13), or it is not in lsm= of its command line")
    found = _confined(ground, "basic", "kill -0 $0 2>/dev/null && echo signalled; true").stdout if abi >= 6 else b""
    if found:
        raise _Unproven("a job could signal its supervisor")
    scopes = "files, signals and abstract sockets" if abi >= 6 else "files; signals and abstract sockets from Linux 6.12 on"
    return f"ABI {abi}: {scopes}"


_CHECKS: Final[tuple[tuple[str, Callable[[Ground], str]], ...]] = (
    ("tree", _tree),
    ("memory_max", _memory),
    ("tasks_max", _tasks),
    ("cpu_quota", _quota),
    ("cpu_weight", _weight),
    ("allowed_cpus", _cpuset),
    ("io", _io),
    ("cpu_time_max", _cpu_time),
    ("wall_time_max", _wall_time),
    ("output_max", _output),
    ("limit_fsize", _file_size),
    ("limit_nofile", _descriptors),
    ("sandbox strict", _strict),
    ("sandbox basic", _basic),
    ("landlock", _landlock),
)


def _surroundings() -> Iterator[Finding]:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.exists(os.path.join(package, "supervisord.py")):
        remedy = "install Ringfence into an environment of its own (pipx, uv tool, venv)"
        detail = "supervisord shares the import package 'supervisor' with us here"
        yield Finding(name="environment", status=FAILED, detail=detail, remedy=remedy)
    try:
        import prctl  # noqa: F401
    except (ImportError, NameError):
        remedy = "pip install 'ringfence[daemon]' (GPL-3.0-or-later; needs gcc and libcap-dev)"
        yield Finding(
            name="python-prctl", status=OPTIONAL, detail="not installed; serves Python preexec hooks; nothing else needs it", remedy=remedy
        )
    else:
        yield Finding(name="python-prctl", status=PROVEN, detail="importable, for Python preexec hooks")
