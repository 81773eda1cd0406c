"""The guest's half of the test machine: runs what the host asks for and streams what comes of it.

Frames travel both ways over one virtio port: a type byte, a 32-bit big-endian length, the payload.
From the host:
    M set the clock and mount the job disk (JSON), R run a step (JSON), K kill the running step,
    P ping, C collect /out, D kernel log
To the host:
    B booted, Q done or pong, O and E output, X step ended (JSON), T a piece of /out as tar, U end of /out,
    L kernel log, ! error
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import selectors
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/ringfence.agent")
TESTER = "tester"
OUT = Path("/out")
JOB = Path("/job")
JOB_DISK = "/dev/vdb"
CGROUPS = Path("/sys/fs/cgroup")
PIECE = 65536
# How long output may stay silent after the step's cgroup is empty, when a process elsewhere still holds the pipe.
DRAIN_SECONDS = 5.0

# Imports what requirements.txt names; a distribution whose module has another name is no loss.
WARM_UP = """
import contextlib, importlib, re
for line in open("/opt/wheels/requirements.txt"):
    if name := re.match(r"[A-Za-z][A-Za-z0-9._-]*", line):
        with contextlib.suppress(ImportError):
            importlib.import_module(name.group().replace("-", "_"))
"""

BLKFLSBUF = 0x1261
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
MS_RDONLY = 1
MCL_CURRENT, MCL_FUTURE = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)


class Port:
    """The virtio port to the host."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        rest = memoryview(kind + struct.pack(">I", len(payload)) + payload)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def receive(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        (size,) = struct.unpack(">I", head[1:])
        return head[:1], self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self.fd, size - len(data))
            if not piece:  # the host end is gone, and with it the machine: nothing is left to do
                raise SystemExit(1)
            data += piece
        return data


class FramedWriter:
    """A file object for tarfile whose writes become frames."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def write(self, data: bytes) -> int:
        for start in range(0, len(data), PIECE):
            self.port.send(b"T", data[start : start + PIECE])
        return len(data)


class Step:
    """One running command, its pipes and its cgroup."""

    def __init__(self, request: dict[str, Any]) -> None:
        argv, options = launch(request)
        self.started = time.monotonic()
        favour_agent(wanted=False)  # a child has what we have at the fork
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                **options,
            )
        finally:
            favour_agent(wanted=True)
        self.pidfd = os.pidfd_open(self.process.pid)

    def cgroup(self) -> Path | None:
        """The scope that the command runs in, or None before it is in one."""
        text = Path(f"/proc/{self.process.pid}/cgroup").read_text()
        path = text.partition("0::/")[2].splitlines()[0].removesuffix(" (deleted)")
        parts = path.split("/")
        for depth, name in enumerate(parts, 1):
            if name.endswith(".scope"):
                return CGROUPS.joinpath(*parts[:depth])
        return None

    def kill(self) -> None:
        kill_cgroup(self.cgroup())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def finish(self) -> int:
        """Reap the command and end what it left in its scope; its exit status, negative for a signal."""
        scope = self.cgroup()  # a zombie still has one, a reaped process has not
        status = self.process.wait()
        kill_cgroup(scope)
        return status


def favour_agent(*, wanted: bool) -> None:
    """Be the last to be killed for memory and the first to get a processor, or an ordinary process."""
    Path("/proc/self/oom_score_adj").write_text("-1000" if wanted else "0")
    os.setpriority(os.PRIO_PROCESS, 0, -10 if wanted else 0)


def kill_cgroup(path: Path | None) -> None:
    if path is not None:
        with contextlib.suppress(FileNotFoundError, OSError):
            (path / "cgroup.kill").write_text("1")


def launch(request: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What to execute, and how, for a step: as root, as tester in a scope of its own, or in a login session."""
    kind, unit = request["as"], f"vm-step-{request['id']}.scope"
    # env gives a missing command the shell's status 127; systemd-run would give one of its own.
    command = ["env", "--", *request["argv"]]
    user = pwd.getpwnam("root" if kind == "root" else TESTER)
    runtime = f"/run/user/{user.pw_uid}"
    env = {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell,
        "LANG": "C.UTF-8",
        "PATH": "/job/bin:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "VIRTUAL_ENV": "/opt/venv",
        # The tree is read-only: compiled modules are kept elsewhere for the rest of the session.
        "PYTHONPYCACHEPREFIX": f"/tmp/pycache-{user.pw_name}",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"/tmp/hypothesis-{user.pw_name}",
        "RINGFENCE_VM": "1",
        **request.get("env", {}),
    }
    directory = request.get("cwd") or "/"
    scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", "--property=Delegate=yes"]
    if kind == "root":
        return [*scope, "--", *command], {"env": env, "cwd": directory}
    env |= {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
    if kind == "login":
        # PAM makes the session, and the environment is the login's own plus ours.
        exports = [f"{name}={value}" for name, value in env.items()]
        inner = ["env", f"--chdir={directory}", *exports, *command]
        return ["runuser", "--login", TESTER, "--command", 'exec "$@"', "--", "sh", *inner], {"cwd": "/"}
    options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": os.getgrouplist(TESTER, user.pw_gid)}
    return [*scope, "--user", "--", *command], {"env": env, "cwd": directory, **options}


def run(port: Port, request: dict[str, Any]) -> None:
    try:
        step = Step(request)
    except OSError as error:
        port.send(b"X", json.dumps({"id": request["id"], "error": str(error)}).encode())
        return
    process = step.process
    assert process.stdout is not None
    assert process.stderr is not None
    status: int | None = None
    with selectors.DefaultSelector() as waiting:
        waiting.register(port.fd, selectors.EVENT_READ, b"")
        waiting.register(step.pidfd, selectors.EVENT_READ, b"")
        waiting.register(process.stdout, selectors.EVENT_READ, b"O")
        waiting.register(process.stderr, selectors.EVENT_READ, b"E")
        open_pipes = 2
        while status is None or open_pipes:
            ready = waiting.select(None if status is None else DRAIN_SECONDS)
            if not ready:
                break
            for key, _ in ready:
                if key.fd == port.fd:
                    answer(port, step)
                elif key.fd == step.pidfd:
                    waiting.unregister(step.pidfd)
                    status = step.finish()
                else:
                    data = os.read(key.fd, PIECE)
                    if data:
                        port.send(key.data, data)
                    else:
                        waiting.unregister(key.fd)
                        open_pipes -= 1
    seconds = time.monotonic() - step.started
    process.stdout.close()
    process.stderr.close()
    os.close(step.pidfd)
    port.send(b"X", json.dumps({"id": request["id"], "status": status, "seconds": seconds}).encode())


def answer(port: Port, step: Step) -> None:
    """What the host may ask while a step runs."""
    kind, payload = port.receive()
    if kind == b"P":
        port.send(b"Q", payload)
    elif kind == b"K":
        step.kill()


def prepare(request: dict[str, Any]) -> None:
    """After a restore: the clock, the random pool and the job disk are those of the time of the snapshot."""
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    seed = bytes.fromhex(request["seed"])
    with Path("/dev/urandom").open("r+b", buffering=0) as pool:
        fcntl.ioctl(pool, RNDADDENTROPY, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
        fcntl.ioctl(pool, RNDRESEEDCRNG)
    disk = os.open(JOB_DISK, os.O_RDONLY | os.O_CLOEXEC)
    try:  # what was read of the empty disk at boot
        fcntl.ioctl(disk, BLKFLSBUF)
    finally:
        os.close(disk)
    # noload: there is no journal, and the disk is read-only
    if LIBC.mount(JOB_DISK.encode(), str(JOB).encode(), b"ext4", MS_RDONLY, b"noload") != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {JOB_DISK}: {os.strerror(code)}")


def collect(port: Port) -> None:
    """Send /out as a tar stream."""
    writer = FramedWriter(port)
    with tarfile.open(fileobj=writer, mode="w|", bufsize=PIECE) as archive:  # type: ignore[call-overload]
        archive.add(OUT, arcname=".")
    port.send(b"U")


def kernel_log() -> bytes:
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    lines = []
    try:
        while True:
            try:
                record = os.read(fd, 16384)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten while we read: go on with the next record
                continue
            head, _, text = record.partition(b";")
            micros = int(head.split(b",")[2])
            lines.append(b"[%5d.%06d] %s" % (*divmod(micros, 1_000_000), text.split(b"\n")[0]))
    finally:
        os.close(fd)
    return b"\n".join(lines)


def warm_up() -> None:
    """Bring what every run needs into memory, so that the snapshot holds it."""
    step = {"id": "warm", "argv": ["/opt/venv/bin/python3", "-c", WARM_UP]}
    for kind in ("root", "user", "login"):
        argv, options = launch({**step, "as": kind})
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, **options)


def settle() -> None:
    """Wait until the system and the user manager have nothing left to start."""
    for command in (["systemctl", "is-system-running", "--wait"], ["systemctl", "is-active", "user@1000.service"]):
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    port = Port(PORT)
    settle()
    warm_up()
    favour_agent(wanted=True)
    # A guest that is out of memory drops program text first: without this our answers would wait for the disk.
    LIBC.mlockall(MCL_CURRENT | MCL_FUTURE)
    os.sync()
    port.send(b"B", kernel_release())
    while True:
        kind, payload = port.receive()
        try:
            if kind == b"R":
                run(port, json.loads(payload))
            elif kind == b"P":
                port.send(b"Q", payload)
            elif kind == b"M":
                prepare(json.loads(payload))
                port.send(b"Q")
            elif kind == b"C":
                collect(port)
            elif kind == b"D":
                port.send(b"L", kernel_log())
        except OSError as error:
            port.send(b"!", str(error).encode())


def kernel_release() -> bytes:
    return os.uname().release.encode()


if __name__ == "__main__":
    sys.exit(main())
