"""One QEMU process: how it is started, watched and ended."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vmtier.arch import Arch, host_arch
from vmtier.cache import DIE_WITH_US, TAIL_LINES
from vmtier.errors import VmError

if TYPE_CHECKING:
    from types import TracebackType

MEMORY = "2G"
CPUS = 2
AGENT_PORT = "ringfence.agent"
# A lock-up is reported on the console before the host gives the guest up for dead (session.DEAD_SECONDS).
CMDLINE = (
    "root=/dev/vda rw quiet loglevel=4 panic=-1 oops=panic mitigations=off psi=1 watchdog_thresh=30 init_on_alloc=0 systemd.show_status=0"
)

# Sizes of the disks. They are part of the snapshot, so every run must show the same ones.
ROOT_SIZE = "3G"
JOB_SIZE = "1G"
SCRATCH_SIZE = "512M"
SWAP_SIZE = "256M"


def base_command(arch: Arch, accel: str, *, threads: str = "multi") -> list[str]:
    # An old processor is emulated quicker than one whose wide registers every library makes use of.
    accelerator, cpu = (f"tcg,thread={threads}", arch.emulated) if accel == "tcg" else ("kvm", "max")
    return [
        arch.qemu,
        *("-name", "ringfence-vm", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-M", arch.machine, "-accel", accelerator, "-cpu", cpu, "-smp", str(CPUS), "-m", MEMORY),
        *("-nic", "none", "-rtc", "base=utc"),
    ]


def quoted(path: Path) -> str:
    """A path as a value in a comma-separated option of QEMU."""
    return str(path).replace(",", ",,")


class Machine:
    """A QEMU process with its console file and the sockets to its agent and monitor."""

    def __init__(self, image: Path, folder: Path, accel: str, *, job: Path, restore: bool) -> None:
        self.console = folder / "console.log"
        self.console.touch()
        arch = host_arch()
        self.agent, agent_end = socket.socketpair()
        self.monitor, monitor_end = socket.socketpair()
        # Restored machines write to throw-away overlays, which QEMU makes and unlinks in TMPDIR.
        writable = "snapshot=on" if restore else "snapshot=off"
        drives = [
            f"file={quoted(image / 'root.img')},{writable}",
            # The job's disk is no part of the snapshot: it may differ at every restore.
            f"file={quoted(job)},readonly=on",
            f"file={quoted(image / 'scratch.img')},{writable}",
            f"file={quoted(image / 'swap.img')},{writable}",
        ]
        command = [
            *DIE_WITH_US,
            # A kernel patches its own code while it boots, which a second emulating thread can meet half-done (int3, a panic).
            *base_command(arch, accel, threads="multi" if restore else "single"),
            *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img")),
            *("-append", f"{CMDLINE} console={arch.console}"),
            *("-chardev", f"file,id=console,path={quoted(self.console)}", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=agent,fd={agent_end.fileno()}"),
            *("-device", "virtio-serial", "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}"),
            *("-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}", "-mon", "chardev=monitor,mode=control"),
        ]
        for number, drive in enumerate(drives):
            command += ["-drive", f"{drive},format=raw,if=none,id=disk{number},cache=unsafe,werror=report"]
            command += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        if restore:
            command += ["-incoming", f"exec:cat {shlex.quote(str(image / 'state'))}"]
        self.log = folder / "qemu.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(agent_end.fileno(), monitor_end.fileno()),
                env={**os.environ, "TMPDIR": str(folder)},
                # A Ctrl-C at the terminal is ours to handle.
                start_new_session=True,
            )
        agent_end.close()
        monitor_end.close()
        self.replies = self.monitor.makefile("r", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.replies.close()
        self.agent.close()
        self.monitor.close()

    def failure(self, what: str) -> VmError:
        """An error that ends with what the machine last said."""
        parts = [what]
        for title, path in (("qemu", self.log), ("guest console", self.console)):
            lines = path.read_text(errors="replace").replace("\r", "").splitlines()[-TAIL_LINES:]
            if lines:
                parts.append(f"--- tail of the {title} ---")
                parts += lines
        return VmError("\n".join(parts))

    def ask_monitor(self, command: str, **arguments: Any) -> Any:
        self.monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            reply = self._reply()
            if "error" in reply:
                raise self.failure(f"qemu refused {command}: {reply['error'].get('desc')}")
            if "return" in reply:
                return reply["return"]

    def wait_event(self, name: str) -> Any:
        while True:
            reply = self._reply()
            if reply.get("event") == name:
                return reply.get("data", {})

    def _reply(self) -> dict[str, Any]:
        line = self.replies.readline()
        if not line:
            raise self.failure("qemu ended early")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def save(self, state: Path) -> None:
        """Write memory and device state to a file and end the machine; its disks then belong to that state."""
        self.ask_monitor("qmp_capabilities")
        self.ask_monitor("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.ask_monitor("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.ask_monitor("migrate", uri=f"exec:cat > {shlex.quote(str(state))}")
        while (status := self.wait_event("MIGRATION")["status"]) != "completed":
            if status == "failed":
                raise self.failure("qemu could not save the snapshot")
        self.ask_monitor("quit")
        self.process.wait()
