"""What differs between processor architectures."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from vmtier.errors import VmError


@dataclass(frozen=True)
class Arch:
    """Names that Debian, QEMU and the wheel tags have for one architecture; ``emulated``: the processor that is quick without KVM."""

    debian: str
    qemu: str
    kernel_package: str
    machine: str
    emulated: str
    console: str
    wheel: str


ARCHES = {
    "x86_64": Arch("amd64", "qemu-system-x86_64", "linux-image-cloud-amd64", "q35", "Nehalem", "ttyS0", "x86_64"),
    "aarch64": Arch("arm64", "qemu-system-aarch64", "linux-image-cloud-arm64", "virt", "max", "ttyAMA0", "aarch64"),
}


def host_arch() -> Arch:
    name = platform.machine()
    try:
        return ARCHES[name]
    except KeyError:
        raise VmError(f"no guest for processor architecture {name}; known: {', '.join(ARCHES)}") from None
