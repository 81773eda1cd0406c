"""The guest image and its snapshot: built once per recipe, kept in the cache."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vmtier import wheels
from vmtier.arch import Arch, host_arch
from vmtier.cache import (
    DIE_WITH_US,
    VM_DIR,
    cache_root,
    digest,
    discard_old,
    file_parts,
    locked,
    publish,
    say,
    scratch,
    tool,
)
from vmtier.errors import VmError
from vmtier.machine import JOB_SIZE, ROOT_SIZE, SCRATCH_SIZE, SWAP_SIZE, Machine, base_command
from vmtier.session import Session
from vmtier.tree import make_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

# The Debian releases a guest can be made of, and the Python each has.
SUITES = {"trixie": "3.13", "bookworm": "3.11"}
BOOT_SECONDS = {"tcg": 600.0, "kvm": 120.0}
PROBE_SECONDS = 20.0
# More than one, so that two checkouts or releases do not rebuild in turn.
KEEP = 4
# What the snapshot depends on besides the versions of qemu and the architecture.
RECIPE = ("packages.txt", "requirements.txt", "guest", "vmtier/image.py", "vmtier/machine.py", "vmtier/arch.py")


def recipe_files() -> Iterator[Path]:
    for name in RECIPE:
        path = VM_DIR / name
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        else:
            yield path


def image_folder(suite: str) -> Path:
    arch = host_arch()
    version = subprocess.run([arch.qemu, "--version"], check=True, capture_output=True).stdout
    asked = os.environ.get("RINGFENCE_VM_ACCEL", "")
    return cache_root() / (f"image-{suite}-" + digest([suite.encode(), version, asked.encode(), *file_parts(VM_DIR, recipe_files())]))


def prepare(suite: str) -> Path:
    """The folder of a finished image, built now when there is none for this recipe."""
    target = image_folder(suite)
    if not target.exists():
        with locked("image"):
            target = image_folder(suite)  # the recipe may have changed while we waited
            if not target.exists():
                started = time.monotonic()
                build(suite, target)
                say(f"the guest is ready: built in {time.monotonic() - started:.0f} s")
                discard_old("image-*", KEEP)
    return target


def build(suite: str, target: Path) -> None:
    arch = host_arch()
    got = wheels.third_party(SUITES[suite])
    with scratch("build") as folder:
        image = folder / "image"
        image.mkdir()
        say(f"building the Debian {suite} image")
        make_root(suite, arch, got, folder, image)
        accel = choose_accel(arch, image, folder)
        (image / "accel").write_text(accel)
        say(f"booting it once ({accel}) to take the snapshot")
        with Machine(image, folder, accel, job=empty_job_disk(folder), restore=False) as machine:
            session = Session(machine)
            release = session.expect(b"B", BOOT_SECONDS[accel], "booting")
            machine.save(image / "state")
        say(f"guest kernel {release.decode()}")
        publish(image, target)


def empty_job_disk(folder: Path) -> Path:
    path = folder / "job.img"
    with path.open("wb") as handle:
        handle.truncate(size_bytes(JOB_SIZE))
    return path


def size_bytes(text: str) -> int:
    return int(text[:-1]) * {"M": 1 << 20, "G": 1 << 30}[text[-1]]


def words(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def make_root(suite: str, arch: Arch, got: Path, folder: Path, image: Path) -> None:
    """The disks, kernel and initial RAM disk, without any mount and, given user namespaces, without root."""
    extra, packed = folder / "guest.tar", folder / "root.tar"
    pack_guest(extra, got)
    names = [*words(VM_DIR / "packages.txt"), arch.kernel_package]
    command = [
        *("mmdebstrap", "--quiet", "--variant=apt", f"--architectures={arch.debian}", f"--include={','.join(names)}"),
        *(f"--aptopt={option}" for option in host_apt_options()),
        *("--aptopt=APT::Install-Recommends false", "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
        f"--customize-hook=tar-in '{extra}' /",
        '--customize-hook=chroot "$1" sh /opt/setup.sh',
        *(suite, str(packed), *host_mirror()),
    ]
    # As root, a process namespace of its own: a killed build leaves no package manager behind, and no mount.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"] if os.geteuid() == 0 else []
    # Without root, the user ids that a user namespace maps may not reach a folder below our home.
    tool([*apart, *command], folder, "building the root file system", temporary=os.geteuid() == 0)
    root = folder / "root"
    root.mkdir()
    # fakeroot remembers the owners that an ordinary user may not set.
    fake = [] if os.geteuid() == 0 else ["fakeroot"]
    script = 'tar -C "$1" --numeric-owner -xpf "$2" && mke2fs -q -F -t ext4 -d "$1" "$3" "$4"'
    command = [*fake, "sh", "-c", script, "sh", str(root), str(packed), str(image / "root.img"), ROOT_SIZE]
    tool(command, folder, "making the root disk")
    for name in ("vmlinuz", "initrd.img"):
        (found,) = (root / "boot").glob(f"{name}-*")
        shutil.copy(found, image / name)
        (image / name).chmod(0o644)
    empty = folder / "empty"
    empty.mkdir()
    make_disk(empty, image / "scratch.img", SCRATCH_SIZE)
    with (image / "swap.img").open("wb") as handle:
        handle.truncate(size_bytes(SWAP_SIZE))
    tool(["mkswap", "--quiet", str(image / "swap.img")], folder, "making the swap disk")
    packed.unlink()
    shutil.rmtree(root)


def pack_guest(target: Path, got: Path) -> None:
    """Our files for the guest as a tar whose owners and modes do not depend on the checkout's."""
    with tarfile.open(target, "w") as archive:
        root = VM_DIR / "guest" / "rootfs"
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                add_file(archive, str(path.relative_to(root)), path.read_bytes())
        add_file(archive, "opt/setup.sh", (VM_DIR / "guest" / "setup.sh").read_bytes())
        add_file(archive, "opt/wheels/requirements.txt", wheels.REQUIREMENTS.read_bytes())
        for path in sorted(got.glob("*.whl")):
            add_file(archive, f"opt/wheels/{path.name}", path.read_bytes())


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size, item.mode, item.mtime = len(content), 0o644, int(time.time())
    archive.addfile(item, io.BytesIO(content))


def host_mirror() -> list[str]:
    """The Debian mirror this host's own apt uses; none given lets mmdebstrap take Debian's default."""
    given = os.environ.get("MIRROR")
    if given:
        return [given]
    form = "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    done = subprocess.run(["apt-get", "indextargets", "--format", form], check=False, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        created, origin, codename, component, uri = line.split("|", 4)
        if (created, origin, component) == ("Packages", "Debian", "main") and re.fullmatch(r"[a-z]+", codename):
            return [uri]
    return []


def host_apt_options() -> list[str]:
    """What this host's apt needs to reach its mirror: proxies, and how strict it is about dates."""
    done = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True)
    wanted = re.compile(r'Acquire::((https?::(Proxy|Verify|CAInfo)[^ ]*)|Check-Valid-Until|Check-Date) "[^"]+";')
    return [line.rstrip(";") for line in done.stdout.splitlines() if wanted.fullmatch(line)]


def choose_accel(arch: Arch, image: Path, folder: Path) -> str:
    """KVM when a guest kernel really runs under it: /dev/kvm may exist and still hang a guest."""
    asked = os.environ.get("RINGFENCE_VM_ACCEL")
    if asked in ("tcg", "kvm"):
        return asked
    if asked:
        raise VmError(f"RINGFENCE_VM_ACCEL is {asked!r}; it may be tcg or kvm")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    key = digest([os.uname().release.encode(), os.uname().version.encode()])
    known = cache_root() / f"accel-{key}"
    if not known.exists():
        say(f"trying KVM (at most {PROBE_SECONDS:.0f} s)")
        partial = folder / "accel"
        partial.write_text("kvm" if kvm_works(arch, image, folder) else "tcg")
        partial.rename(known)
    return known.read_text()


def kvm_works(arch: Arch, image: Path, folder: Path) -> bool:
    """Whether the kernel gets, under KVM, as far as missing its root disk; it then panics and qemu ends."""
    console = folder / "probe.log"
    command = [
        *DIE_WITH_US,
        *base_command(arch, "kvm"),
        *("-kernel", str(image / "vmlinuz"), "-append", f"console={arch.console} panic=-1"),
        *("-serial", f"file:{console}"),
    ]
    try:
        subprocess.run(
            command,
            check=False,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except subprocess.TimeoutExpired:
        return False
    return console.exists() and b"Unable to mount root fs" in console.read_bytes()
