"""The host's end of the agent protocol: see guest/rootfs/usr/local/lib/ringfence-vm/agent.py for the frames."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import struct
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from vmtier.cache import say
from vmtier.errors import VmError

if TYPE_CHECKING:
    from pathlib import Path

    from vmtier.machine import Machine

As = Literal["root", "user", "login"]

# A silent guest is asked for a sign of life; a guest that starves or swaps under emulation may be slow to give it.
QUIET_SECONDS = 15.0
DEAD_SECONDS = 150.0
KILL_SECONDS = 60.0
RESTORE_SECONDS = 120.0
EXIT_TIMEOUT = 124


@dataclass(frozen=True)
class Step:
    """One command for the guest."""

    kind: As
    argv: tuple[str, ...]

    def title(self) -> str:
        text = " ".join(self.argv)
        return f"{self.kind}: {text if len(text) <= 60 else text[:57] + '...'}"


@dataclass(frozen=True)
class Ended:
    """How a step ended; status is the shell's: 128+N for a signal."""

    step: Step
    status: int
    seconds: float
    timed_out: bool


class Session:
    """A conversation with the agent of one running machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.buffer = bytearray()
        self.selector = selectors.DefaultSelector()
        self.selector.register(machine.agent, selectors.EVENT_READ)
        self.steps = 0

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        try:
            self.machine.agent.sendall(kind + struct.pack(">I", len(payload)) + payload)
        except OSError:
            raise self._gone() from None

    def receive(self, until: float) -> tuple[bytes, bytes] | None:
        """The next frame, or None at the given time of the monotonic clock."""
        while True:
            if len(self.buffer) >= 5:
                (size,) = struct.unpack_from(">I", self.buffer, 1)
                if len(self.buffer) >= 5 + size:
                    frame = bytes(self.buffer[:1]), bytes(self.buffer[5 : 5 + size])
                    del self.buffer[: 5 + size]
                    return frame
            if not self.selector.select(max(0.0, until - time.monotonic())):
                return None
            try:
                data = self.machine.agent.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                raise self._gone()
            self.buffer += data

    def expect(self, kind: bytes, seconds: float, doing: str) -> bytes:
        """Wait for one kind of frame; the agent's error or silence becomes ours."""
        frame = self.receive(time.monotonic() + seconds)
        if frame is None:
            raise self.machine.failure(f"the guest did not answer within {seconds:.0f} s while {doing}")
        if frame[0] == b"!":
            raise self.machine.failure(f"the guest failed while {doing}: {frame[1].decode(errors='replace')}")
        if frame[0] != kind:
            raise VmError(f"unexpected frame {frame[0]!r} from the guest while {doing}")
        return frame[1]

    def begin(self) -> None:
        """Tell a restored guest the time, give it fresh randomness and have it mount the job disk."""
        request = {"time": time.time(), "seed": secrets.token_hex(64)}
        self.send(b"M", json.dumps(request).encode())
        self.expect(b"Q", RESTORE_SECONDS, "restoring")

    def run(self, step: Step, timeout: float, cwd: str) -> Ended:
        """Run one step, copying its output to ours as it comes."""
        self.steps += 1
        request: dict[str, Any] = {"id": self.steps, "as": step.kind, "argv": step.argv, "cwd": cwd}
        self.send(b"R", json.dumps(request).encode())
        started = time.monotonic()
        deadline = started + timeout
        heard, asked, killed = started, False, False
        while True:
            now = time.monotonic()
            if now >= deadline:
                if killed:
                    raise self.machine.failure(f"the guest could not end a step within {KILL_SECONDS:.0f} s")
                killed, deadline = True, now + KILL_SECONDS
                self.send(b"K")
            if now >= heard + DEAD_SECONDS:
                raise self.machine.failure(f"the guest has not answered for {DEAD_SECONDS:.0f} s: it hangs")
            if not asked and now >= heard + QUIET_SECONDS:
                asked = True
                self.send(b"P")
            frame = self.receive(min(deadline, heard + (DEAD_SECONDS if asked else QUIET_SECONDS)))
            if frame is None:
                continue
            heard, asked = time.monotonic(), False
            kind, payload = frame
            if kind == b"O":
                write_all(1, payload)
            elif kind == b"E":
                write_all(2, payload)
            elif kind == b"X":
                result = json.loads(payload)
                if "error" in result:
                    raise VmError(f"the guest could not start the step: {result['error']}")
                status = EXIT_TIMEOUT if killed else shell_status(result["status"])
                return Ended(step, status, result["seconds"], killed)
            elif kind == b"!":
                raise self.machine.failure(f"the guest failed: {payload.decode(errors='replace')}")

    def kernel_log(self) -> str:
        self.send(b"D")
        return self.expect(b"L", DEAD_SECONDS, "reading the kernel log").decode(errors="replace")

    def collect(self, target: Path, folder: Path) -> None:
        """Bring the guest's /out back, by way of a file in a folder of ours."""
        self.send(b"C")
        with tempfile.TemporaryFile(dir=folder) as stream:
            while True:
                frame = self.receive(time.monotonic() + DEAD_SECONDS)
                if frame is None:
                    raise self.machine.failure("the guest stopped while sending /out")
                kind, payload = frame
                if kind == b"T":
                    stream.write(payload)
                elif kind == b"U":
                    break
                elif kind == b"!":
                    raise self.machine.failure(f"the guest failed to send /out: {payload.decode(errors='replace')}")
            stream.seek(0)
            unpack(stream, target)

    def _gone(self) -> VmError:
        with contextlib.suppress(Exception):
            self.machine.process.wait(10)
        console = self.machine.console.read_text(errors="replace")
        panic = re.search(r"Kernel panic - not syncing.*", console)
        why = panic.group().strip() if panic else "it powered off, or qemu ended"
        return self.machine.failure(f"the guest went away: {why}")


def shell_status(status: int) -> int:
    return status if status >= 0 else 128 - status


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def unpack(stream: IO[bytes], target: Path) -> None:
    """Write the plain files and folders of a tar that a test made; anything else, or a path that leaves, is named."""
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=stream) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                say(f"left out of --out: {member.name} (its path leaves the folder)")
                continue
            place = target.joinpath(*path.parts)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
                place.chmod(0o755 if member.mode & 0o100 else 0o644)
            else:
                say(f"left out of --out: {member.name} (not a plain file)")
