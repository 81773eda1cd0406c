# SPDX-License-Identifier: Apache-2.0
"""From a Sandbox to the steps that build it: namespaces, the init helper's own hooks, the hooks of the job itself.

``strict`` is built by the init helper (native/init.c), process 1 of the new namespaces, before it starts the job;
``basic`` by the job itself between clone and exec.
"""

from __future__ import annotations

from supervisor.errors import ConfigError, UnsupportedError
from supervisor.model.hooks import Hook
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.sandbox import BASIC, STRICT
from supervisor.model.spec import Credentials
from supervisor.model.units import INFINITY
from supervisor.model.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from supervisor.model.host import Host, SandboxFacts
    from supervisor.model.sandbox import Bind, Overlay, Sandbox
    from supervisor.model.spec import JobSpec

NEWNS: Final = 0x00020000
NEWUTS: Final = 0x04000000
NEWIPC: Final = 0x08000000
NEWUSER: Final = 0x10000000
NEWPID: Final = 0x20000000
NEWNET: Final = 0x40000000
NAMES: Final = {NEWUSER: "user", NEWPID: "pid", NEWNS: "mount", NEWNET: "network", NEWIPC: "ipc", NEWUTS: "uts"}

#: Arguments of the hooks, see native/mounts.c.
WRITABLE, EXISTING, OPTIONAL, DEVICE, LISTED, TERMINAL = 1, 2, 4, 8, 16, 32
DIRECTORY, LINK, FILE = 0, 1, 2
OWN_TMPFS, ROOTS_TMPFS = 0, 1
NOEXEC: Final = 8  # MS_NOEXEC and MOUNT_ATTR_NOEXEC alike

DEVICES: Final = ("null", "zero", "full", "random", "urandom")
DEVICE_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
#: What /proc tells of the host that a job has no business with, and that no namespace hides; then what only root may read.
MASKED: Final = ("acpi/", "asound/", "keys", "scsi/")
MASKED_FROM_ROOT: Final = tuple(
    "kcore kpagecgroup kpagecount kpageflags latency_stats pagetypeinfo slabinfo timer_list vmallocinfo".split()
)
KEEP_MAX: Final = 64  # native/plan.h
PAGE_BYTES: Final = 4096
SPARE_INODES: Final = 256
SHM_INODES: Final = 4096
TERMINALS_MAX: Final = 64
#: The kernel counts these for the owner of a user namespace, whoever the job is: no job gets more than this part of what they have.
USER_SHARE: Final = 8
RLIMIT_NOFILE, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE = 7, 11, 12
#: Better and real-time priority, which some hosts allow their users for sound.
PRIORITIES: Final = (13, 14)

# linux/landlock.h
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READING: Final = EXECUTE | READ_FILE | READ_DIR
#: Rights on files by the ABI that brought them; each includes the ones before.
FILE_RIGHTS: Final = ((5, (1 << 16) - 1), (3, (1 << 15) - 1), (2, (1 << 14) - 1), (1, (1 << 13) - 1))
SCOPES: Final = 3  # abstract unix sockets, signals: ABI 6
SCOPE_ABI: Final = 6

#: Steps that build or close a sandbox: what fails there is neither the command's fault nor a limit's.
STEPS: Final = frozenset(
    "helper target user_map user_namespaces network hostname time_namespace root private_mounts place tmpfs terminals proc bind overlay "
    "pivot bounding_set cgroup_directory cgroup_namespace capabilities landlock seccomp".split()
)

#: The environment of a confined job, with the variables that ``keep_env`` names.
CLEAN_ENV: Final = {b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"HOME": b"/tmp", b"LANG": b"C.UTF-8"}
HOME: Final = "/tmp"


@value
class Confinement:
    """The steps of one sandbox on one host. ``namespaces`` are CLONE_NEW* flags for whoever runs ``setup`` first."""

    namespaces: int = 0
    setup: tuple[Hook, ...] = ()
    by_init: bool = False  # the init helper runs setup, as process 1; else the job itself
    user_map: tuple[str, str] | None = None  # uid_map and gid_map that the supervisor writes; None: setup does, or nobody
    drop: tuple[Hook, ...] = ()  # before the user changes
    rlimits: Mapping[int, Rlimit] = {}  # unless the limits say otherwise
    credentials: Credentials | None = None  # instead of the specification's
    fence: tuple[Hook, ...] = ()  # last but one, before the parent-death signal
    working_directory: str | None = None  # where a job begins that did not say
    words: str = ""
    warnings: tuple[str, ...] = ()


NOT_CONFINED: Final = Confinement()


def confine(spec: JobSpec, host: Host) -> Confinement:
    """Decide the steps of ``spec.sandbox``.

    Raises :class:`UnsupportedError` naming what this host lacks, :class:`ConfigError` for what cannot be combined.
    """
    sandbox = spec.sandbox
    if sandbox is None or sandbox.level not in (BASIC, STRICT):
        return NOT_CONFINED
    facts = host.sandbox
    if facts is None:
        raise UnsupportedError("sandbox", "the facts about this host's namespaces were not read")
    if spec.preexec:
        raise ConfigError("preexec: Python callables cannot run in a sandbox; use the options of the job instead")
    if sandbox.landlock and not facts.landlock_abi:
        raise UnsupportedError("sandbox: landlock", "this kernel has no Landlock, or it is not enabled (lsm= on the kernel's command line)")
    return _strict(spec, sandbox, facts) if sandbox.level == STRICT else _basic(spec, sandbox, facts)


def inside(host: Host) -> Host:
    """The host as a job in a user namespace of its own meets it: root's power over rlimits ends at its door."""
    facts = host.sandbox
    return host if facts is None else replace(host, capable_resource=False, hard_rlimits=facts.hard_rlimits)


def private_bytes(spec: JobSpec) -> int | None:
    """The size of the one private file system where ``disk_max`` holds it, else None."""
    most = spec.limits.disk_max
    return None if most is None or most == INFINITY or disk_problem(spec) else int(most)


def disk_problem(spec: JobSpec) -> str | None:
    """Why the sandbox cannot hold ``disk_max``, or None when it can."""
    sandbox = spec.sandbox
    if sandbox is None or sandbox.level != STRICT:
        return "only a strict sandbox gives a job a file system of its own (sandbox = 'strict')"
    for bind in sandbox.bind:
        if bind.mode == "rw":
            return f"what the job writes to the bind {bind.target} cannot be counted; make it 'ro', or an overlay"
    for overlay in sandbox.overlay:
        if overlay.changes == "keep":
            return f"what the overlay {overlay.target} keeps cannot be counted"
    return None


# ---- basic ----


def _basic(spec: JobSpec, sandbox: Sandbox, facts: SandboxFacts) -> Confinement:
    setup: list[Hook] = []
    namespaces = 0
    if sandbox.private_tmp:
        namespaces = NEWNS
        if not facts.mount_capable:
            if facts.missing:
                raise UnsupportedError("sandbox: private_tmp", facts.missing)
            namespaces |= NEWUSER
            setup.append(_user_map(facts.uid, facts.gid, facts))
        setup.append(Hook(stage="private_mounts", text="mounts of its own"))
        setup.append(_covered_tmp(spec, sandbox))
    places = ("/tmp", "/dev/shm", *[bind.target for bind in sandbox.bind if bind.mode == "rw"])
    begin = spec.working_directory
    # A job that begins in one of these may write there: where a link of an earlier one's leads from it is another matter.
    writable = [*(() if isinstance(begin, str) and _below(begin, places) else (".",)), *places]
    devices = [(f"/dev/{name}", READ_FILE | WRITE_FILE | IOCTL_DEV) for name in (*DEVICES, "tty", "ptmx", "pts")]  # never a disk
    rules = [("/", READING), *devices, *((path, -1) for path in writable)]
    fence, words, warnings = _landlock(sandbox, facts, rules)
    private = ["private /tmp"] if sandbox.private_tmp else []
    return Confinement(
        namespaces=namespaces,
        setup=tuple(setup),
        drop=(Hook(stage="bounding_set", text="no capability can be gained"),),
        fence=(*_dropped(), *fence),
        working_directory=HOME,
        words="basic: " + ", ".join([*private, "no capabilities", "no_new_privs", "no core dumps", *words]),
        warnings=warnings,
    )


def _covered_tmp(spec: JobSpec, sandbox: Sandbox) -> Hook:
    """A /tmp of its own, through which binds and the working directory still show if they lie there."""
    kept = {bind.source: bind.mode for bind in sandbox.bind if _below(bind.source, ("/tmp",), proper=True)}
    begin = spec.working_directory
    if isinstance(begin, str) and _below(begin, ("/tmp",), proper=True) and not _below(begin, tuple(kept)):
        kept[begin] = "rw"
    if len(kept) > KEEP_MAX:
        raise ConfigError(f"bind: at most {KEEP_MAX} places in /tmp can be shown")
    shown = [("w" if mode == "rw" else "r") + path[len("/tmp/") :] for path, mode in sorted(kept.items())]
    options = f"mode=1777,size={sandbox.tmp_size},nr_inodes={sandbox.tmp_inodes}"
    text = f"/tmp of {sandbox.tmp_size} bytes" + (f", with {' '.join(sorted(kept))}" if kept else "")
    return Hook(stage="tmpfs", text=text, arg=OWN_TMPFS, b=len(shown), data=_texts("/tmp", options, *shown))


def _dropped() -> tuple[Hook, ...]:
    return Hook(stage="capabilities", text="no capability is held"), Hook(
        stage="no_new_privileges", text="set-user-ID programs gain nothing"
    )


# ---- strict ----


def _strict(spec: JobSpec, sandbox: Sandbox, facts: SandboxFacts) -> Confinement:
    if facts.missing:
        raise UnsupportedError("sandbox: strict", facts.missing)
    user_map = _other_user(spec, sandbox, facts)
    namespaces = NEWUSER | NEWPID | NEWNS | NEWIPC | NEWUTS | (0 if sandbox.network == "host" else NEWNET)
    writable = [
        "/tmp",
        "/dev/shm",
        *(bind.target for bind in sandbox.bind if bind.mode == "rw"),
        *(place.target for place in sandbox.overlay),
    ]
    rules = [("/", READING), ("/dev", READING | WRITE_FILE | IOCTL_DEV | TRUNCATE), *((path, -1) for path in writable)]
    fence, words, warnings = _landlock(sandbox, facts, rules)
    names = [*(name for flag, name in NAMES.items() if namespaces & flag), "cgroup"]
    cgroup = Hook(stage="cgroup_namespace", text="its own cgroup is the root of what it sees")
    return Confinement(
        namespaces=namespaces,
        setup=tuple(_setup(spec, sandbox, facts, own_map=user_map is None)),
        user_map=user_map,
        by_init=True,
        drop=(cgroup, Hook(stage="bounding_set", text="no capability can be gained")),
        rlimits=_rlimit_shares(facts),
        credentials=Credentials() if user_map is None else Credentials(uid=sandbox.uid, gid=sandbox.gid, groups=()),
        fence=(*_dropped(), *fence),
        working_directory=HOME,
        words=f"strict: namespaces {' '.join(names)}; a root of its own, no capabilities, no_new_privs, network {sandbox.network}"
        + "".join([f", {word}" for word in words]),
        warnings=warnings,
    )


def _other_user(spec: JobSpec, sandbox: Sandbox, facts: SandboxFacts) -> tuple[str, str] | None:
    """The maps of a job that is another user outside: root's to write. The init helper stays root in them, out of the job's reach."""
    who = spec.credentials
    if (who.uid, who.gid, who.groups) == (None, None, None):
        return None
    if facts.uid != 0 or who.uid is None or who.gid is None:
        raise ConfigError("user: under strict only root can choose the user, with a group; sandbox.uid and gid are what the job sees")
    if 0 in (who.uid, who.gid) or 0 in (sandbox.uid, sandbox.gid):
        raise ConfigError("user: under strict the user, the group, sandbox.uid and sandbox.gid must not be 0 together with user=")
    return f"0 0 1\n{sandbox.uid} {who.uid} 1\n", f"0 0 1\n{sandbox.gid} {who.gid} 1\n"


def _setup(spec: JobSpec, sandbox: Sandbox, facts: SandboxFacts, own_map: bool) -> Iterator[Hook]:
    """The init helper's own steps. Paths below the new root are relative: it is the working directory."""
    assert sandbox.uid is not None and sandbox.gid is not None
    if own_map:
        yield _user_map(sandbox.uid, sandbox.gid, facts)
    counts = {"max_user_namespaces": 0, **{name: max(1, most // USER_SHARE) for name, most in facts.user_counts.items()}}
    shares = "".join([f", {name} {count}" for name, count in counts.items() if count])
    texts = [text for name, count in counts.items() for text in (f"/proc/sys/user/{name}", str(count))]
    words = f"no further user namespaces, a session keyring of its own{shares}"
    yield Hook(stage="user_namespaces", text=words, arg=len(counts), data=_texts(*texts))
    adjust = spec.oom_score_adjust
    if adjust is None and facts.oom_score_adjust < 0:  # what protects a daemon of the host's is not for its jobs
        adjust = 0
    if adjust is not None:  # inherited by the job, which finds /proc read-only
        text = str(adjust)
        yield Hook(stage="oom_score_adjust", text=text, data=text.encode())
    if sandbox.network == "loopback":
        yield Hook(stage="network", text="the loopback interface comes up")
    yield Hook(stage="hostname", text=sandbox.hostname, data=sandbox.hostname.encode())
    if sandbox.time_namespace:
        yield Hook(stage="time_namespace", text="clocks since boot begin at zero")
    files = _own_files(sandbox)
    private = private_bytes(spec)
    size = (sandbox.tmp_size if private is None else private) + PAGE_BYTES * len(files)
    inodes = sandbox.tmp_inodes + SPARE_INODES
    yield Hook(stage="root", text=f"an empty root, {size} bytes and {inodes} files at most", data=_texts(str(size), str(inodes)))
    covered = tuple([place.target for place in (*sandbox.bind, *sandbox.overlay)])
    yield from _system(facts, sandbox, covered)
    for path, content in files:
        if not _below(path, covered):
            yield Hook(stage="place", text=f"file {path}", arg=FILE, a=0o644, data=_texts(path[1:], content))
    yield from _devices(spec, sandbox, shared=private is not None)
    yield from _proc(facts)
    yield from _binds(sandbox, facts)
    hidden = 1 if any(overlay.upper is None for overlay in sandbox.overlay) else 0
    yield Hook(stage="pivot", text="the new root becomes the only one, read-only", arg=hidden)


def _rlimit_shares(facts: SandboxFacts) -> dict[int, Rlimit]:
    """What a job may take of what its starter has, so far as that is finite, and no priority over others."""
    has = {resource: int(most) for resource, most in facts.hard_rlimits.items() if most != INFINITY}
    shares = {resource: has[resource] // USER_SHARE for resource in (RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE) if resource in has}
    made = {resource: Rlimit(soft=share, hard=share) for resource, share in shares.items()}
    if RLIMIT_NOFILE in has:
        half = has[RLIMIT_NOFILE] // 2
        made[RLIMIT_NOFILE] = Rlimit(soft=min(facts.soft_nofile, half), hard=half)
    made |= {resource: Rlimit(soft=0, hard=0) for resource in PRIORITIES if facts.hard_rlimits.get(resource, 0) > 0}
    return made


def _user_map(uid: int, gid: int, facts: SandboxFacts) -> Hook:
    text = f"user {uid} and group {gid} inside are {facts.uid} and {facts.gid} outside"
    return Hook(stage="user_map", text=text, data=_texts(f"{uid} {facts.uid} 1\n", f"{gid} {facts.gid} 1\n"))


def _own_files(sandbox: Sandbox) -> tuple[tuple[str, str], ...]:
    users = [("root", 0, 0), ("job", sandbox.uid, sandbox.gid), ("nobody", 65534, 65534)]
    known = {uid: (name, uid, gid) for name, uid, gid in reversed(users)}
    passwd = "".join([f"{name}:x:{uid}:{gid}::{HOME}:/bin/sh\n" for name, uid, gid in sorted(known.values(), key=lambda row: row[1] or 0)])
    groups = {gid: name for name, _, gid in reversed(users)}
    group = "".join([f"{name}:x:{gid}:\n" for gid, name in sorted(groups.items(), key=lambda row: row[0] or 0)])
    hosts = f"127.0.0.1 localhost {sandbox.hostname}\n::1 localhost\n"
    return (
        ("/etc/passwd", passwd),
        ("/etc/group", group),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        *((("/etc/hosts", hosts),) if sandbox.network != "host" else ()),
    )


def _system(facts: SandboxFacts, sandbox: Sandbox, covered: tuple[str, ...]) -> Iterator[Hook]:
    """What programs need of the host, except where a bind or overlay puts something else."""
    for place in facts.system:
        if (place.network and sandbox.network != "host") or _below(place.path, covered):
            continue
        if place.kind == "link":
            yield Hook(stage="place", text=f"link {place.path} to {place.source}", arg=LINK, data=_texts(place.path[1:], place.source))
        else:
            yield Hook(stage="bind", text=f"{place.source} at {place.path}, ro", arg=OPTIONAL, data=_texts(place.source, place.path[1:]))


def _devices(spec: JobSpec, sandbox: Sandbox, shared: bool) -> Iterator[Hook]:
    for name in (*DEVICES, "tty"):
        # A read-only mount: devices are written all the same, but root's job cannot take the host's node away by its mode or owner.
        yield Hook(stage="bind", text=f"/dev/{name}", arg=DEVICE, data=_texts(f"/dev/{name}", f"dev/{name}"))
    for name, content in DEVICE_LINKS:
        yield Hook(stage="place", text=f"link /dev/{name}", arg=LINK, data=_texts(f"dev/{name}", content))
    yield from _terminals(spec)
    yield Hook(stage="place", text="directory /dev/shm", arg=DIRECTORY, a=0o1777, data=_texts("dev/shm", ""))
    if shared:
        yield Hook(stage="tmpfs", text="/dev/shm, of the root's", arg=ROOTS_TMPFS, a=NOEXEC, data=_texts("dev/shm", ""))
    else:
        options = f"mode=1777,size={sandbox.shm_size},nr_inodes={SHM_INODES}"
        yield Hook(stage="tmpfs", text=f"/dev/shm of {sandbox.shm_size} bytes", arg=OWN_TMPFS, a=NOEXEC, data=_texts("dev/shm", options))
    yield Hook(stage="place", text="directory /tmp", arg=DIRECTORY, a=0o1777, data=_texts("tmp", ""))
    yield Hook(stage="tmpfs", text="/tmp, of the root's", arg=ROOTS_TMPFS, data=_texts("tmp", ""))
    for name in ("sys", "proc"):
        yield Hook(stage="place", text=f"directory /{name}", arg=DIRECTORY, a=0o555, data=_texts(name, ""))


def _terminals(spec: JobSpec) -> Iterator[Hook]:
    """Pseudo-terminals of its own; the one it was given, which belongs to the host, is /dev/console: there ttyname(3) finds it."""
    options = f"newinstance,mode=620,ptmxmode=666,max={TERMINALS_MAX}"
    yield Hook(stage="place", text="directory /dev/pts", arg=DIRECTORY, a=0o755, data=_texts("dev/pts", ""))
    yield Hook(stage="terminals", text=f"/dev/pts, {TERMINALS_MAX} terminals at most", data=_texts("dev/pts", options))
    if spec.controlling_terminal is not None:
        link, arg = f"/proc/self/fd/{spec.controlling_terminal}", DEVICE | OPTIONAL | TERMINAL
        yield Hook(stage="bind", text="the job's terminal at /dev/console", arg=arg, data=_texts(link, "dev/console"))


def _proc(facts: SandboxFacts) -> Iterator[Hook]:
    masked = (*MASKED, *(MASKED_FROM_ROOT if facts.uid == 0 else ()))
    data = _texts(*("proc/" + name for name in masked))
    yield Hook(stage="proc", text=f"/proc of its own, read-only, without {' '.join(masked)}", arg=len(masked), data=data)


def _binds(sandbox: Sandbox, facts: SandboxFacts) -> Iterator[Hook]:
    """Binds and overlays, what lies above first. Where another one shows something already, nothing is made for a target."""
    places: list[Bind | Overlay] = sorted([*sandbox.bind, *sandbox.overlay], key=lambda place: (place.target.count("/"), place.target))
    shown = {place.path for place in facts.system if place.kind == "directory"}
    number = 0
    for place in places:
        existing = 0 if shown.isdisjoint(_parents(place.target)) else EXISTING
        shown.add(place.target)
        target = place.target[1:]
        if hasattr(place, "mode"):
            arg = existing | (WRITABLE if place.mode == "rw" else 0)
            yield Hook(stage="bind", text=f"{place.source} at {place.target}, {place.mode}", arg=arg, data=_texts(place.source, target))
            continue
        number += 1
        upper = f".changes/{number}" if place.upper is None else place.upper
        if place.upper is None:
            yield Hook(
                stage="place",
                text=f"directory for the changes of {place.target}",
                arg=DIRECTORY,
                a=0o755,
                data=_texts(upper + "/changes", ""),
            )
            yield Hook(
                stage="place", text=f"directory for the work of {place.target}", arg=DIRECTORY, a=0o755, data=_texts(upper + "/work", "")
            )
        layers = (place.source, f"{upper}/changes", f"{upper}/work")
        text = f"{place.source} at {place.target}, changes: {place.changes}"
        arg = existing | (LISTED if place.changes == "list" else 0)
        yield Hook(stage="overlay", text=text, arg=arg, data=_texts(target, *layers))


def _parents(path: str) -> list[str]:
    """The directories that a path lies in, without the root."""
    return [path[:at] for at, char in enumerate(path) if char == "/" and at]


def _below(path: str, roots: tuple[str, ...], proper: bool = False) -> bool:
    return any(path.startswith(root + "/") or (path == root and not proper) for root in roots)


# ---- Landlock ----


def _landlock(sandbox: Sandbox, facts: SandboxFacts, rules: list[tuple[str, int]]) -> tuple[tuple[Hook, ...], list[str], tuple[str, ...]]:
    """The fence, the words for it, and a warning where the kernel has none."""
    abi = facts.landlock_abi
    if sandbox.landlock is False:
        return (), [], ()
    if not abi:
        return (), [], ("this kernel has no Landlock: the sandbox stands without its second fence",)
    handled = next(rights for least, rights in FILE_RIGHTS if abi >= least)
    scoped = SCOPES if abi >= SCOPE_ABI else 0
    size = 24 if abi >= SCOPE_ABI else 16 if abi >= 4 else 8
    data = b"".join([(rights & handled).to_bytes(8, "little") + _texts(path) for path, rights in rules])
    shown = " ".join([path for path, rights in rules if rights == -1])
    text = f"write only below {shown}" + ("; no signals and abstract sockets to the outside" if scoped else "")
    return (Hook(stage="landlock", text=text, arg=size, a=handled, b=scoped, data=data),), [f"Landlock ABI {abi}"], ()


def _texts(*texts: str) -> bytes:
    return b"".join([text.encode("utf-8", "surrogateescape") + b"\0" for text in texts])
