# SPDX-License-Identifier: Apache-2.0
"""A strict sandbox is a world of its own: programs that try to see, touch, keep or signal what is outside, and cannot."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from sandboxes import LIMITS, run_strict, said, say, strict
from waiting import SLOW, Line

import supervisor

pytestmark = [pytest.mark.requires("mount"), pytest.mark.usefixtures("holder")]


def errno_of(expression: str) -> str:
    """Code that prints the name of the error that an expression raises, or what it gave."""
    return f"import ctypes, errno, os, socket\ntry: print({expression})\nexcept OSError as e: print(errno.errorcode[e.errno])"


def test_the_job_sees_a_root_of_its_own() -> None:
    found = say("ls -A / && ls -A /tmp && ls -A /dev/shm").split()
    assert set(found) <= {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "nix", "gnu", "proc", "sbin", "sys", "tmp", "usr"}


@pytest.mark.parametrize("path", ["/home", "/root", "/var", "/etc/shadow", "/etc/ssh", "/run", "/sys/fs", "/boot"])
def test_what_is_the_hosts_alone_is_not_there(path: str) -> None:
    assert say(f"test -e {path} && echo seen || echo gone") == "gone"


@pytest.mark.parametrize(
    "path", ["/x", "/usr/x", "/etc/x", "/etc/passwd", "/proc/sys/kernel/hostname", "/proc/self/comm", "/sys/x", "/dev/x"]
)
def test_nothing_but_the_private_places_can_be_written(path: str) -> None:
    code = f"try: open({path!r}, 'w')\nexcept OSError as e: print(e.errno)"
    assert int(said(run_strict(code))) in (errno.EROFS, errno.EACCES, errno.EPERM)


def test_tmp_and_shm_can_be_written_and_are_gone_afterwards() -> None:
    assert say("echo x > /tmp/f && echo y > /dev/shm/f && cat /tmp/f /dev/shm/f").split() == ["x", "y"]
    assert say("ls -A /tmp /dev/shm | grep f$ || true") == ""


def test_tmp_has_a_size_and_a_number_of_files() -> None:
    code = """
import errno
def fill(folder, size):
    written = 0
    try:
        with open(folder + "/f", "wb", buffering=0) as file:
            while written < 100 << 20:
                written += file.write(bytes(size))
    except OSError as e:
        print(errno.errorcode[e.errno], written)
fill("/tmp", 65536)
fill("/dev/shm", 65536)
try:
    for n in range(100000): open(f"/tmp/{n}", "x").close()
except OSError as e: print(errno.errorcode[e.errno], n)
"""
    tmp, shm, files = said(run_strict(code, sandbox=strict(tmp_size="2M", shm_size="1M", tmp_inodes=100))).splitlines()
    assert tmp.split()[0] == shm.split()[0] == files.split()[0] == "ENOSPC"
    assert int(tmp.split()[1]) <= 2 << 20 and int(shm.split()[1]) <= 1 << 20 and int(files.split()[1]) < 400


def test_disk_max_is_the_size_of_all_it_can_write() -> None:
    code = """
import errno
total = 0
for folder in ("/dev/shm", "/tmp"):
    try:
        with open(folder + "/f", "wb", buffering=0) as file:
            while total < 100 << 20: total += file.write(bytes(4096))
    except OSError as e: print(errno.errorcode[e.errno])
print(total)
"""
    outcome = run_strict(code, limits={**LIMITS, "disk_max": "1M"})
    assert said(outcome).splitlines() == ["ENOSPC", "ENOSPC", str(1 << 20)]
    assert outcome.enforcement["disk_max"] == "size of the sandbox's own file system"
    assert outcome.limits_hit == ("disk_max",) and not outcome.killed


FILLING = "with open('/tmp/f', 'wb', buffering=0) as file:\n    while True: file.write(bytes(4096))"


def test_a_job_that_fails_with_a_full_file_system_is_a_disk_limit() -> None:
    outcome = run_strict(FILLING, limits={**LIMITS, "disk_max": "1M"})
    assert (outcome.verdict, outcome.limits_hit, outcome.killed, outcome.exit.code) == ("disk_limit", ("disk_max",), False, 1), outcome
    assert outcome.exit_status() == 124 and outcome.warnings == ()


def test_an_overlay_that_is_full_counts_too(tmp_path: Path) -> None:
    outcome = run_strict(
        FILLING.replace("/tmp", "/work"), sandbox=strict(overlay=[{"source": str(tmp_path), "target": "/work"}]), limits={"disk_max": "1M"}
    )
    assert outcome.verdict == "disk_limit", outcome


def test_a_failure_beside_much_free_space_is_its_own() -> None:
    """A write that cannot fit at all leaves no trace, and neither does what was deleted again: the verdict does not guess."""
    code = "import os\nwith open('/tmp/f', 'wb') as file: os.posix_fallocate(file.fileno(), 0, 8 << 20)"
    outcome = run_strict(code, limits={**LIMITS, "disk_max": "1M"})
    assert (outcome.verdict, outcome.limits_hit, outcome.warnings) == ("nonzero_exit", (), ()), outcome


def test_a_failure_with_little_space_left_is_warned_of() -> None:
    outcome = run_strict(
        "import sys\nwith open('/tmp/f', 'wb') as file: file.write(bytes(1000 << 10))\nsys.exit(1)", limits={"disk_max": "1M"}
    )
    assert outcome.verdict == "nonzero_exit" and any("may have run out of space" in warning for warning in outcome.warnings), outcome
    outcome = run_strict(FILLING, sandbox=strict(tmp_size="1M"), limits=LIMITS)
    assert outcome.verdict == "nonzero_exit" and any("tmp_size" in warning for warning in outcome.warnings), outcome
    outcome = run_strict("n = 0\nwhile True:\n    open(f'/tmp/{n}', 'w').close(); n += 1", sandbox=strict(tmp_inodes=64), limits=LIMITS)
    assert outcome.verdict == "nonzero_exit" and any("tmp_inodes" in warning for warning in outcome.warnings), outcome


def test_disk_max_is_refused_where_the_job_may_write_to_the_host(tmp_path: Path) -> None:
    with pytest.raises(supervisor.UnsupportedError, match=r"disk_max.*cannot be counted"):
        run_strict("", sandbox=strict(bind=[f"{tmp_path}:/data:rw"]), limits={"disk_max": "1M"})


def test_ids_are_its_own_and_no_privilege_is_left() -> None:
    status = say("id -u; id -g; grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '").splitlines()
    assert status == ["1000", "1000", *(f"Cap{name}: {'0' * 16}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")), "NoNewPrivs: 1"]


def test_the_ids_can_be_chosen() -> None:
    assert say("id -u; id -g", sandbox={"level": "strict", "uid": 0, "gid": 7}).split() == ["0", "7"]


def test_the_job_is_alone_with_process_1() -> None:
    assert say("ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm").split()[1] == "ringfence-init"
    assert int(say("ls -d /proc/[0-9]* | wc -l")) <= 4  # process 1, the shell, ls and wc


@pytest.mark.parametrize("signal", [9, 15, 19])
def test_process_1_takes_no_signal_from_the_job(signal: int) -> None:
    outcome = run_strict(f"import os\ntry: os.kill(1, {signal})\nexcept PermissionError: pass\nprint('alive')")
    assert said(outcome) == "alive"


def test_process_1_cannot_be_looked_into_or_overwritten() -> None:
    code = """
import errno
for path, mode in (("/proc/1/mem", "rb"), ("/proc/1/mem", "r+b"), ("/proc/1/exe", "rb"), ("/proc/1/exe", "r+b"), ("/proc/1/environ", "rb")):
    try:
        open(path, mode).read(1)
        print("open", path)
    except OSError as e:
        assert e.errno in (errno.EACCES, errno.EPERM, errno.EROFS), e
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(16, 1, 0, 0) == -1  # PTRACE_ATTACH
"""
    assert said(run_strict(code)) == ""


@pytest.mark.parametrize(
    "call",
    [
        'libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)',
        'libc.umount2(b"/proc", 2)',
        'libc.mount(None, b"/", None, 32 | 4096, None)',  # remount writable
        'libc.chroot(b"/tmp")',
        'libc.sethostname(b"x", 1)',
        "libc.setns(os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
        "libc.setgroups(0, None)",
        "libc.unshare(0x10000000)",  # CLONE_NEWUSER
        "libc.unshare(0x00020000)",  # CLONE_NEWNS
        "libc.setuid(0)",
        "libc.reboot(0x01234567)",
    ],
)
@pytest.mark.parametrize("syscalls", ["default", "none"])
def test_what_needs_privilege_is_refused(call: str, syscalls: str) -> None:
    """By the filter; and without one by what lies behind it."""
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ntry: print({call})\nexcept OSError: print(-1)"
    assert said(run_strict(code, sandbox=strict(syscalls=syscalls))) == "-1"


def test_there_is_no_network() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        outcome = run_strict(errno_of(f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=5)"))
    assert said(outcome) in ("ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH")
    assert said(run_strict(errno_of("[name for _, name in socket.if_nameindex()]"))) == "['lo']"


def test_loopback_is_the_jobs_own() -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
client.sendall(b"x")
print(server.accept()[0].recv(1))
"""
    assert said(run_strict(code, sandbox=strict(network="loopback"))) == "b'x'"


def test_the_hosts_network_is_there_when_asked_for() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=5)\nprint('there')"
        assert said(run_strict(code, sandbox=strict(network="host"))) == "there"


def test_an_abstract_socket_of_the_host_cannot_be_reached() -> None:
    name = f"\0ringfence-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        for network in ("none", "host"):
            if network == "host" and not landlock_scopes():
                continue
            code = errno_of(f"socket.socket(socket.AF_UNIX).connect({name!r})")
            assert said(run_strict(code, sandbox=strict(network=network))) in ("ECONNREFUSED", "EPERM"), network


def landlock_scopes() -> bool:
    from supervisor.kernel import native

    return native.landlock_abi() >= 6


def test_names_and_clocks_are_its_own() -> None:
    assert say("hostname", sandbox={"level": "strict", "hostname": "inner.example"}) == "inner.example"
    code = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME) < 60)"
    assert said(run_strict(code, sandbox=strict(time_namespace=True))) == "True"


def test_the_environment_is_small_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("WANTED", "y")
    names = say("env", sandbox={"level": "strict", "keep_env": ["WANTED"]}).splitlines()
    assert "WANTED=y" in names and "HOME=/tmp" in names and not [line for line in names if line.startswith("SECRET")]
    assert say("echo $A", env={"A": "b"}) == "b"


@pytest.mark.requires("root")
@pytest.mark.parametrize("level", ["basic", "strict"])
def test_another_users_job_is_not_given_the_environment_of_root(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("WANTED", "y")
    names = say("env", sandbox={"level": level, "keep_env": ["WANTED"]}, user=65534, group=65534, extra_groups=(), cwd="/").splitlines()
    assert "WANTED=y" in names and "HOME=/tmp" in names and not [line for line in names if line.startswith("SECRET")]


def test_descriptors_and_the_terminal_do_not_come_along() -> None:
    code = "import os\nprint(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())\ntry: os.open('/dev/tty', 0)\nexcept OSError: print('none')"
    with open(os.devnull) as leaked:
        os.set_inheritable(leaked.fileno(), True)
        assert said(run_strict(code)).splitlines() == ["['0', '1', '2', '3'] True", "none"]  # the 3 lists


@pytest.mark.parametrize("user", [None, pytest.param(65534, marks=pytest.mark.requires("root"))])
def test_what_the_kernel_counts_for_each_user_is_left_to_the_others(user: int | None) -> None:
    """The owner of the user namespace pays for what a job takes, whoever the job is: root could not watch a file or set a timer."""
    code = """
import ctypes, os, signal
call = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
watching = queued = 0
while call.inotify_init() >= 0: watching += 1
while call.sigqueue(ctypes.c_int(os.getpid()), signal.SIGRTMIN, ctypes.c_void_p(0)) == 0: queued += 1
print(watching, queued)
"""
    who: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": ()}
    watching, queued = map(int, said(run_strict(code, limits={**LIMITS, "limit_nofile": 4096}, **who)).split())
    instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert 0 < watching <= max(1, instances // 8)
    assert 0 < queued <= resource.getrlimit(resource.RLIMIT_SIGPENDING)[1] // 8


def test_process_1_keeps_no_signals_for_the_job() -> None:
    code = """
import ctypes, signal
call = ctypes.CDLL(None)
for n in range(1000): call.sigqueue(1, signal.SIGRTMIN, ctypes.c_void_p(0))
print([line.split()[1] for line in open("/proc/1/status") if line.startswith(("SigPnd", "ShdPnd"))])
"""
    assert said(run_strict(code, sandbox=strict(landlock=False))) == str(["0" * 16] * 2)


def test_a_job_cannot_take_the_descriptors_of_process_1_to_hide_what_it_changed(tmp_path: Path) -> None:
    code = """
import resource
open("/data/evil", "w").close()
for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):
    try: resource.prlimit(1, kind, (0, 0))
    except PermissionError: print("refused")
resource.prlimit(0, resource.RLIMIT_NOFILE, (9, 9))
"""
    outcome = run_strict(code, sandbox=strict(overlay=[{"source": str(tmp_path), "target": "/data", "changes": "list"}]))
    assert said(outcome).split() == ["refused", "refused"]
    assert outcome.denied_syscalls == {"prlimit64": 2}
    assert outcome.changes is not None and [change.path for change in outcome.changes] == ["/data/evil"]


def test_access_control_lists_are_small_for_no_limit_counts_their_memory() -> None:
    code = """
import errno, os, struct
os.mkdir("/tmp/d")
def granted(users):
    entries = [(1, 6, -1), *[(2, 4, os.getuid())] * users, (4, 4, -1), (16, 4, -1), (32, 4, -1)]
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try: os.setxattr("/tmp/d", "system.posix_acl_default", raw)
    except OSError as e: return errno.errorcode[e.errno]
    return "granted"
print(granted(3), granted(200), granted(8000))
"""
    few, many, most = said(run_strict(code)).split()
    assert few in ("granted", "ENOTSUP", "EOPNOTSUPP") and (many, most) == ("EPERM", "EPERM")


def test_keys_of_connections_are_refused_for_no_limit_counts_their_memory() -> None:
    code = errno_of("socket.socket().setsockopt(6, 14, bytes(216))") + "\nsocket.socket().setsockopt(6, socket.TCP_NODELAY, 1)"
    assert said(run_strict(code)) == "EPERM"


def test_cgroups_show_nothing_of_the_host() -> None:
    assert {line.split(":", 2)[2] for line in say("cat /proc/self/cgroup").splitlines()} == {"/"}


def test_a_core_is_not_dumped() -> None:
    assert said(run_strict("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")) == "(1, 1)"


def test_a_daemon_ends_with_its_job() -> None:
    code = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    for number in range(1, 32):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    signal.pause()
"""
    with Line() as line:
        outcome = run_strict(code, pass_fds=[line.end], limits={"wall_time_max": 30})
        line.wait_closed(timeout=1)
    assert outcome.verdict == "ok", outcome


def test_a_limit_ends_the_whole_namespace() -> None:
    code = "import os, signal\nfor n in range(20):\n    if os.fork() == 0: signal.pause()\nsignal.pause()"
    with Line() as line:
        outcome = run_strict(code, pass_fds=[line.end], limits={"wall_time_max": 0.5})
        line.wait_closed(timeout=1)
    assert outcome.verdict == "wall_limit", outcome


def test_an_exit_status_and_a_signal_are_told() -> None:
    assert run_strict("raise SystemExit(7)").exit.code == 7
    assert run_strict("import os; os.kill(os.getpid(), 11)").exit.signal == 11


def test_processor_time_is_the_jobs_and_not_the_set_ups() -> None:
    outcome = supervisor.run(["/bin/true"], sandbox="strict", limits=LIMITS)
    assert outcome.usage.cpu_ns is not None and outcome.usage.start_latency_ns is not None
    assert outcome.usage.cpu_ns < 50_000_000 * SLOW


@pytest.mark.requires("root")
def test_root_can_make_the_job_another_user_outside(tmp_path: Path) -> None:
    """Inside it is 1000; what it writes belongs to that user, what is root's it cannot touch."""
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    script = "id -u; id -G; touch /data/f /tmp/f && echo written; cat /data/secret 2>/dev/null || echo refused; kill -0 1 2>/dev/null || echo alone"
    sandbox = {"level": "strict", "bind": [f"{tmp_path}:/data:rw"]}
    found = say(script, sandbox, user=65534, group=65534, extra_groups=()).split()
    assert found == ["1000", "1000", "written", "refused", "alone"]
    assert (tmp_path / "f").stat().st_uid == 65534


@pytest.mark.requires("root")
def test_a_job_of_roots_cannot_take_the_hosts_devices_away() -> None:
    """It owns the node as root does, so only the mount keeps it from changing mode, owner and times; written it is all the same."""
    before = os.stat("/dev/full")
    code = """
import errno, os
for change in (lambda: os.chmod("/dev/full", 0), lambda: os.chown("/dev/full", 1000, 1000), lambda: os.utime("/dev/full", (0, 0))):
    try: print("changed", change())
    except OSError as e: print(errno.errorcode[e.errno])
print(os.write(os.open("/dev/zero", os.O_WRONLY), b"x"))
"""
    try:
        assert said(run_strict(code)).split() == ["EROFS", "EROFS", "EROFS", "1"]
    finally:
        os.chmod("/dev/full", before.st_mode)


@pytest.mark.requires("root")
@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_a_stream_to_the_hosts_null_device_is_the_sandboxs_own(stream: str, tmp_path: Path) -> None:
    """A descriptor of a writable mount would let root's job change the node through it (fchmod(2))."""
    devices_work = not os.statvfs(tmp_path).f_flag & os.ST_NODEV
    node = (tmp_path if devices_work else Path("/dev")) / f"ringfence-null-{os.getpid()}"
    os.mknod(node, 0o020666, os.stat("/dev/null").st_rdev)
    node.chmod(0o666)
    code = """
import errno, os
for fd in (0, 2):
    try: os.fchmod(fd, 0)
    except OSError as e: print(errno.errorcode[e.errno])
print(os.read(0, 1), os.write(2, b"x"))
"""
    try:
        with node.open("r+b", buffering=0) as file:
            given: dict[str, Any] = {"stdin": supervisor.DEVNULL, "stdout": supervisor.PIPE, "stderr": supervisor.DEVNULL, stream: file}
            assert said(run_strict(code, capture_output=False, **given)).split() == ["EROFS", "EROFS", "b''", "1"]
        assert node.stat().st_mode & 0o777 == 0o666
    finally:
        node.unlink()


def test_what_cannot_be_combined_is_refused() -> None:
    for options in ({"preexec": [print]}, {"user": os.getuid(), "group": os.getgid()}):
        with pytest.raises(supervisor.ConfigError):
            run_strict("", **options)


def test_process_1_runs_from_memory_that_nobody_can_change() -> None:
    """The program is a sealed copy, so even somebody who could open it could not overwrite it for later jobs (CVE-2019-5736)."""
    from supervisor.kernel.launch import HELPER
    from supervisor.kernel.native import Engine

    engine = Engine()
    try:
        program = engine.sealed_program(HELPER)
        assert engine.sealed_program(HELPER) == program
        assert os.pread(program, 1 << 20, 0) == Path(HELPER).read_bytes()
        with open(f"/proc/self/fd/{program}", "r+b", buffering=0) as file, pytest.raises(PermissionError):
            file.write(b"x")
    finally:
        engine.close()


# terminals


def test_a_job_opens_terminals_of_its_own_and_sees_no_others() -> None:
    master, slave = os.openpty()  # one of the host's
    try:
        code = """
import os, pty
print(os.listdir("/dev/pts"))
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/sh", ["sh", "-c", "tty; echo there > /dev/tty"])
text = b""
while text.count(b"\\n") < 2:
    text += os.read(fd, 100)
print(text.decode().split(), os.waitpid(pid, 0)[1])
"""
        assert said(run_strict(code)).splitlines() == ["['ptmx']", "['/dev/pts/0', 'there'] 0"]
    finally:
        os.close(master)
        os.close(slave)


def test_terminals_are_bounded() -> None:
    code = "import os\nfor n in range(100): os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)"
    outcome = run_strict(code)
    assert outcome.verdict == "nonzero_exit" and "No space left" in outcome.stderr, outcome


def test_a_job_without_a_terminal_finds_none() -> None:
    assert say(
        "tty; (: < /dev/tty) 2>/dev/null || echo none; ls /dev/console 2>/dev/null || true", stdin=supervisor.DEVNULL
    ).splitlines() == [
        "not a tty",
        "none",
    ]


def test_the_terminal_that_a_job_is_given_has_a_name_and_cannot_be_taken_from_the_host() -> None:
    master, slave = os.openpty()
    try:
        mode = os.fstat(slave).st_mode
        spec = supervisor.JobSpec(
            argv=("/bin/sh", "-c", "tty; echo there > /dev/tty; chmod 0 /dev/console || true"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            controlling_terminal=slave,
            sandbox=supervisor.Sandbox(level="strict"),
        )
        assert supervisor.run(spec).verdict == "ok"
        text = os.read(master, 4096).decode()
        assert text.splitlines()[:2] == ["/dev/console", "there"] and "Read-only" in text
        assert os.fstat(slave).st_mode == mode
    finally:
        os.close(master)
        os.close(slave)
