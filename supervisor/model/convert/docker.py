# SPDX-License-Identifier: Apache-2.0
"""From a ``docker run ...`` (or ``podman run ...``) command line: its limits, binds and network.

Sources: docker-run(1) of Docker 27; what each becomes on cgroup v2 is in runc's libcontainer (shares and
weights are converted as there) and in the OCI runtime specification.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.convert.converted import Conversion
from supervisor.model.getopt_long import NO_ARGUMENT, REQUIRED_ARGUMENT, getopt_long
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.spelling import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from supervisor.model.convert.converted import Converted

_FLAGS: Final = (
    "detach disable-content-trust init interactive no-healthcheck oom-kill-disable privileged publish-all quiet read-only rm sig-proxy tty"
).split()
_VALUES: Final = (
    "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count cpu-percent"
    " cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach-keys device device-cgroup-rule"
    " device-read-bps device-read-iops device-write-bps device-write-iops dns dns-option dns-search domainname entrypoint env env-file"
    " expose gpus group-add health-cmd health-interval health-retries health-start-period health-timeout hostname ip ip6 ipc isolation"
    " kernel-memory label label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap"
    " memory-swappiness mount name network network-alias oom-score-adj pid pids-limit platform publish pull restart runtime security-opt"
    " shm-size stop-signal stop-timeout storage-opt sysctl tmpfs ulimit user userns uts volume volume-driver volumes-from workdir"
).split()
LONG: Final = {**dict.fromkeys(_FLAGS, NO_ARGUMENT), **dict.fromkeys((*_VALUES, "net"), REQUIRED_ARGUMENT)}
SHORT: Final = {
    "a": "attach",
    "c": "cpu-shares",
    "d": "detach",
    "e": "env",
    "h": "hostname",
    "i": "interactive",
    "l": "label",
    "m": "memory",
    "P": "publish-all",
    "p": "publish",
    "q": "quiet",
    "t": "tty",
    "u": "user",
    "v": "volume",
    "w": "workdir",
}
#: Options that say how one container is kept, not what it may use: nothing of theirs is a policy's.
_HOUSEKEEPING: Final = frozenset(
    "attach cidfile detach detach-keys disable-content-trust health-cmd health-interval health-retries health-start-period"
    " health-timeout init interactive label label-file name no-healthcheck pull quiet restart rm sig-proxy".split()
)
_HINTS: Final = {
    "user": "say --user when the job is started",
    "workdir": "say --working-directory when the job is started",
    "env": "say --setenv when the job is started",
    "env-file": "say --setenv when the job is started",
    "tty": "say --pty when the job is started",
    "stop-timeout": "say --kill-grace when the job is started",
    "oom-score-adj": "say --oom-score-adjust when the job is started",
    "privileged": "a sandbox never gives privileges",
    "cap-add": "a sandbox gives no capabilities",
    "cap-drop": "a sandbox drops every capability",
    "read-only": "the root of a strict sandbox is read-only",
    "device": "a strict sandbox has a minimal /dev and no other devices",
    "publish": "there is no network to publish from",
    "volume": "only absolute paths of the host can be bound",
    "kernel-memory": "cgroup v2 counts the kernel's memory with the rest",
    "memory-swappiness": "cgroup v2 has no such file",
    "tmpfs": "a strict sandbox has a /tmp of its own, see tmp_size",
    "security-opt": "choose a preset with syscalls; no_new_privs is set by every level",
}


def convert_docker(argv: Sequence[str]) -> Converted:
    """The profile of the words behind ``docker`` or ``podman``; raises :class:`ConfigError` for an option neither has."""
    words = list(argv)
    while words and words[0] in ("docker", "podman", "container"):
        words.pop(0)
    if not words or words[0] not in ("run", "create"):
        raise ConfigError("a docker command line begins with run or create")
    try:
        found, operands = getopt_long(words[1:], LONG, SHORT, permute=False)
    except ConfigError as error:
        said = str(error)
        name = said.partition("'--")[2].rstrip("'") if said.startswith("unrecognized") else ""
        raise ConfigError(said + (nearest(name, LONG) if name else "")) from None
    return _Run(found, operands).convert()


class _Run:
    """One command line: its options by name, while they become a profile."""

    def __init__(self, found: Sequence[tuple[str, str | None]], operands: Sequence[str]) -> None:
        self._made = Conversion("a docker command line")
        self._given: dict[str, list[str]] = {}
        for name, argument in found:
            self._given.setdefault("network" if name == "net" else name, []).append(argument or "")
        self._operands = operands

    def convert(self) -> Converted:
        made = self._made
        for convert in (self._memory, self._processor, self._devices, self._ulimits, self._world, self._binds):
            convert()
        made.lost += [
            f"--{name} {text}".rstrip()[:120] + (f": {_HINTS[name]}" if name in _HINTS else "")
            for name, texts in self._given.items()
            if name not in _HOUSEKEEPING
            for text in texts
        ]
        if kept := sorted(_HOUSEKEEPING & self._given.keys()):
            made.lost.append(f"{', '.join(f'--{name}' for name in kept)}: how a container is kept, not what it may use")
        if self._operands:
            made.lost.append(
                f"the image and its command: {' '.join(self._operands)[:120]}; a sandbox shows the host's own system directories"
            )
        return made.result()

    def _last(self, name: str) -> str:
        """The value that counts, taken off the list of what is left; empty when it was not given."""
        return self._given.pop(name, [""])[-1]

    def _number(self, name: str, read: Callable[[str], Any]) -> Any:
        """The same as a number, None when it was not given or is none (which is then said)."""
        text = self._last(name)
        if not text:
            return None
        try:
            return read(text)
        except ValueError as error:
            self._made.lost.append(f"--{name} {text[:60]}: {error}")
            return None

    def _memory(self) -> None:
        made = self._made
        memory, total = self._number("memory", _bytes), self._number("memory-swap", _swap)
        if memory:
            made.limit("memory_max", memory, "--memory")
        if total == -1:
            made.limit("memory_swap_max", "infinity", "--memory-swap -1")
        elif memory and total:
            made.limit("memory_swap_max", max(0, total - memory), "--memory-swap less --memory: docker counts both together")
        elif memory:
            made.limit("memory_swap_max", memory, "docker's default: as much swap as memory")
        low = self._number("memory-reservation", _bytes)
        if low:
            made.limit("memory_low", low, "--memory-reservation")
        pids = self._number("pids-limit", int)
        if pids is not None:
            made.limit("tasks_max", pids if pids > 0 else "infinity", "--pids-limit")

    def _processor(self) -> None:
        made = self._made
        cpus, quota, period = self._number("cpus", _ppm), self._number("cpu-quota", int), self._number("cpu-period", int)
        if cpus:
            made.limit("cpu_quota", _percent(cpus), "--cpus")
        elif quota is not None and quota > 0:
            made.limit("cpu_quota", _percent(quota * 1_000_000 // (period or 100_000)), "--cpu-quota of --cpu-period")
        if period:
            made.limit("cpu_quota_period", f"{period}us", "--cpu-period")
        shares = self._number("cpu-shares", int)
        if shares:
            weight = 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142
            made.limit("cpu_weight", weight, f"--cpu-shares {shares}, as runc converts it for cgroup v2")
        for option, limit in (("cpuset-cpus", "allowed_cpus"), ("cpuset-mems", "allowed_memory_nodes")):
            if text := self._last(option):
                made.limit(limit, text, f"--{option}")

    def _devices(self) -> None:
        made = self._made
        weight = self._number("blkio-weight", int)
        if weight:
            made.limit("io_weight", 1 + (min(max(weight, 10), 1000) - 10) * 9999 // 990, f"--blkio-weight {weight}, as runc converts it")
        for option, limit, read in (
            ("device-read-bps", "io_read_bandwidth_max", _bytes),
            ("device-write-bps", "io_write_bandwidth_max", _bytes),
            ("device-read-iops", "io_read_iops_max", int),
            ("device-write-iops", "io_write_iops_max", int),
        ):
            lines = []
            for text in self._given.pop(option, []):
                device, _, amount = text.rpartition(":")
                try:
                    lines.append(f"{device} {read(amount)}")
                except ValueError as error:
                    made.lost.append(f"--{option} {text[:60]}: {error}")
            if lines:
                made.limit(limit, lines, f"--{option}")

    def _ulimits(self) -> None:
        for text in self._given.pop("ulimit", []):
            name, _, amounts = text.partition("=")
            limit = f"limit_{name}"
            if limit not in LIMITS:
                self._made.lost.append(f"--ulimit {text[:60]}: there is no such limit")
                continue
            if name in ("cpu",):  # whole seconds on both sides
                amounts = ":".join(f"{amount}s" if amount.isdecimal() else amount for amount in amounts.split(":"))
            self._made.limit(limit, amounts.replace("-1", "infinity").replace("unlimited", "infinity"), f"--ulimit {name}")

    def _world(self) -> None:
        made = self._made
        made.world("level", "strict", "a container is a world of its own; this one has the host's system directories in it, read-only")
        network = self._last("network")
        if network == "host":
            made.world("network", "host", "--network host")
        else:
            made.world(
                "network", "none", "--network none" if network == "none" else "there is no bridge: say host to share the host's network"
            )
        if network not in ("", "host", "none"):
            made.lost.append(f"--network {network[:60]}: there are none, loopback and host")
        elif not network:
            made.lost.append("docker's bridge network, its default: the profile has none")
        if name := self._last("hostname"):
            made.world("hostname", name, "--hostname")
        made.world("shm_size", self._number("shm-size", _bytes) or 64 << 20, "--shm-size; 64M by default")

    def _binds(self) -> None:
        binds = []
        for option, read in (("volume", _volume), ("mount", _mount)):
            left = []
            for text in self._given.pop(option, []):
                bind = read(text)
                if bind is None:
                    left.append(text)
                else:
                    binds.append(bind)
            if left:
                self._given[option] = left
        if binds:
            self._made.world("bind", binds, "--volume and --mount")


def _volume(text: str) -> dict[str, str] | None:
    """``SOURCE:TARGET[:OPTIONS]`` with absolute paths as a bind, else None."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    return _bind(source, target, set(options.split(",")) - {"", "z", "Z"})


def _mount(text: str) -> dict[str, str] | None:
    """``type=bind,source=...,target=...[,readonly]`` as a bind, else None."""
    words = dict(part.partition("=")[::2] for part in text.split(","))
    kind, source = words.pop("type", "volume"), words.pop("source", "") or words.pop("src", "")
    target = words.pop("target", "") or words.pop("dst", "") or words.pop("destination", "")
    read_only = words.pop("readonly", words.pop("ro", "false")) in ("", "true", "1")
    if kind != "bind" or words:
        return None
    return _bind(source, target, {"ro"} if read_only else set())


def _bind(source: str, target: str, options: set[str]) -> dict[str, str] | None:
    if not source.startswith("/") or not target.startswith("/") or not options <= {"ro", "rw"}:
        return None
    return {"source": source, "target": target, "mode": "ro" if "ro" in options else "rw"}


def _bytes(text: str) -> int:
    """docker's sizes: a number and b, k, m, g or t, powers of 1024, in either case."""
    digits = text.strip().lower().removesuffix("b")
    factor: int = 1024 ** (" kmgt".find(digits[-1:]) if digits[-1:] in tuple("kmgt") else 0)
    digits = digits if factor == 1 else digits[:-1]
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20:
        raise ValueError("is not a size")
    return int(digits) * factor


def _swap(text: str) -> int:
    return -1 if text.strip() == "-1" else _bytes(text)


def _ppm(text: str) -> int:
    """Processors with a fraction, in millionths."""
    whole, _, decimals = text.partition(".")
    digits = whole + decimals
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20:
        raise ValueError("is not a number of processors")
    return int(whole or "0") * 1_000_000 + int(decimals[:6].ljust(6, "0"))


def _percent(ppm: int) -> str:
    return f"{ppm // 10_000}.{ppm % 10_000:04d}%"
