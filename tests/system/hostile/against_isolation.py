# SPDX-License-Identifier: Apache-2.0
"""Scenarios 32 to 62: programs that reach for other processes, the host, its files, its kernel, or more privilege."""

from __future__ import annotations

from typing import Final

from scenario import Scenario, ended, printed, require

from supervisor import Outcome

NEW: Final = {
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "mnt": 0x00020000,
    "time": 0x80,
}
FLAGS: Final = tuple(NEW.values())


def _calls(number: int, does: str, by: str, *calls: str, denied: tuple[str, ...] = ()) -> Scenario:
    """A program that makes each of these calls, NAME:ARGUMENT..., which must all be refused, and named when ``denied``."""

    def proof(outcome: Outcome) -> None:
        require(set(denied) <= outcome.denied_syscalls.keys(), outcome)

    return Scenario(number=number, program="calls.py", args=calls, does=does, by=by, refuses=len(calls), proof=proof)


def nothing_was_found(outcome: Outcome) -> None:
    require(outcome.stdout == b"found []\n", outcome)


def no_privilege(outcome: Outcome) -> None:
    said = outcome.stdout.decode()
    words = "inside Uid: 1000 1000 1000 1000 CapEff: 0000000000000000 NoNewPrivs: 1"
    require("live set-user-ID programs []" in said and words in said, outcome)


def no_core(outcome: Outcome) -> None:
    require(outcome.exit.signal == 11 and not outcome.exit.core, outcome)


AGAINST_ISOLATION: Final = (
    Scenario(
        number=32,
        program="kill_all.py",
        args=("{PID}",),
        does="signals everybody: all processes, its parent, process 1, the supervisor",
        refuses=5,
        proof=printed("alive, and so is ringfence-init"),
        by="pid namespace",
    ),
    Scenario(
        number=33,
        program="daemon.py",
        does="leaves a deaf daemon behind by a double fork",
        levels=("strict", "basic", "none"),
        requires=("cgroup",),
        by="cgroup.kill when the main process ends",
    ),
    Scenario(
        number=34,
        program="zombies.py",
        does="floods the system with orphans and zombies",
        limits={"tasks_max": 64},
        requires=("pids",),
        proof=printed("orphans are reaped"),
        by="process 1 reaps; cgroup pids.max",
    ),
    Scenario(
        number=35,
        program="attack_init.py",
        does="attacks process 1: reads, writes, traces, overwrites it",
        refuses=16,
        by="the helper is not dumpable and another user; pid namespace; ptrace denied",
    ),
    Scenario(
        number=35,
        play="init_is_killed",
        does="somebody outside kills process 1",
        verdicts=("sandbox_error",),
        by="the kernel ends the namespace; the verdict is not the job's fault",
    ),
    Scenario(
        number=36,
        program="stuck_vfork.c",
        does="a vfork child that never calls exec",
        verdicts=("wall_limit",),
        limits={"wall_time_max": "1s"},
        by="cgroup.kill; what cannot be killed is given up after 5 s: sandbox_error",
    ),
    Scenario(
        number=37,
        play="frozen",
        does="its cgroup is frozen when it must end",
        verdicts=("cancelled",),
        requires=("cgroup",),
        by="cgroup.kill reaches what is frozen",
    ),
    Scenario(
        number=38,
        program="cgroups.py",
        args=("leave",),
        does="moves itself out of its cgroup, raises its limits",
        refuses=19,
        proof=printed("in 0::/"),
        by="no cgroup file system inside; the limits are one level above",
    ),
    Scenario(
        number=39,
        program="services.py",
        does="asks D-Bus, systemd, docker to start something outside",
        refuses=8,
        proof=printed("environment []"),
        by="their sockets are not in the root; clean environment",
    ),
    _calls(
        40,
        "traces and writes into others",
        "pid namespace; system calls denied",
        "ptrace:16:1:0:0",
        "process_vm_readv:1:0:0:0:0:0",
        "process_vm_writev:1:0:0:0:0:0",
        "pidfd_getfd:0:0:0",
        "kcmp:1:1:0:0:0",
        denied=("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    ),
    Scenario(
        number=41,
        play="overwrites_the_program",
        does="overwrites the helper's program for the next job (CVE-2019-5736)",
        refuses=16,
        by="the helper runs from a sealed memfd",
    ),
    Scenario(
        number=42,
        play="leaked_descriptors",
        does="uses leaked descriptors and working directories (CVE-2024-21626)",
        refuses=68,
        by="close_range before exec; pivot_root, the old root unmounted",
    ),
    Scenario(
        number=43,
        play="terminal",
        does="types into the terminal it was started from (TIOCSTI, TIOCLINUX)",
        refuses=5,
        proof=printed("terminal True"),
        by="system calls denied; a session of its own",
    ),
    Scenario(
        number=44,
        play="links",
        does="leaves links in its work folder that lead out of it, for the next job to follow",
        verdicts=("sandbox_error",),
        by="read-only binds; no link is followed on the way to a bind's target",
    ),
    Scenario(
        number=45,
        program="odd_files.py",
        args=("{WORK}",),
        does="leaves pipes, devices and a file of a TiB",
        limits={"limit_fsize": "1M"},
        sandbox={"bind": ("{WORK}:{WORK}:rw",)},
        refuses=3,
        by="no CAP_MKNOD, nodev; RLIMIT_FSIZE",
    ),
    Scenario(
        number=46,
        program="many_files.py",
        args=("/tmp", "200"),
        does="makes files without end, deep folders, long names, modes that forbid everything",
        sandbox={"tmp_inodes": 5000},
        refuses=1,
        by="number of files of the private tmpfs, gone with its namespace",
    ),
    Scenario(
        number=47,
        program="privilege.py",
        does="gains privileges by set-user-ID programs",
        refuses=4,
        proof=no_privilege,
        by="no_new_privs, nosuid, empty bounding set",
    ),
    _calls(
        48,
        "makes namespaces of its own, and mounts",
        "system calls denied",
        *[f"unshare:{flag}" for flag in FLAGS],
        *[f"clone:{flag | 17}:0:0:0:0" for flag in FLAGS if flag != 0x80],
        "clone3:0:0",
        "mount:0:0:0:0:0",
        "umount2:0:0",
        "pivot_root:0:0",
        "chroot:0",
        "fsopen:0:0",
        "open_tree:0:0:0",
        "move_mount:0:0:0:0:0",
        "mount_setattr:0:0:0:0:0",
        "setns:0:0",
        denied=(
            "unshare",
            "clone",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "setns",
        ),
    ),
    Scenario(
        number=49,
        program="namespace_bomb.py",
        does="asks for thousands of namespaces",
        refuses=1,
        by="system calls denied; what is counted is bounded",
    ),
    _calls(
        50,
        "keeps a key for the next job to read",
        "system calls denied",
        "add_key:0:0:0:0:0",
        "keyctl:0:-3:1",
        "request_key:0:0:0:0",
        denied=("add_key", "keyctl", "request_key"),
    ),
    Scenario(
        number=51,
        play="sockets",
        does="reaches the host by abstract, TCP, vsock, raw and audit sockets",
        refuses=9,
        proof=printed("interfaces ['lo']"),
        by="network namespace; socket families by filter",
    ),
    _calls(
        52,
        "goes round the filter by io_uring",
        "system calls denied, as if the kernel lacked them",
        "io_uring_setup:1:0",
        "io_uring_enter:0:0:0:0:0:0",
        "io_uring_register:0:0:0:0",
        denied=("io_uring_setup",),
    ),
    _calls(
        53,
        "knocks at the kernel's doors: bpf, perf, userfaultfd, kexec, modules, quotas, swap",
        "system calls denied",
        "bpf:0:0:0",
        "perf_event_open:0:0:-1:-1:0",
        "userfaultfd:0",
        "kexec_load:0:0:0:0",
        "kexec_file_load:0:0:0:0:0",
        "init_module:0:0:0",
        "finit_module:0:0:0",
        "delete_module:0:0",
        "quotactl:0:0:0:0",
        "swapon:0:0",
        "swapoff:0",
        "fanotify_init:0:0",
        "open_by_handle_at:0:0:0",
        "acct:0",
        denied=("bpf", "perf_event_open", "userfaultfd", "kexec_load", "init_module", "finit_module", "quotactl", "swapon"),
    ),
    *[
        Scenario(
            number=54,
            program="foreign_call.c",
            args=(kind,),
            does=f"calls the kernel by the entry of {kind}",
            verdicts=("syscall_denied",),
            requires=("x86_64",),
            by="the filter checks the architecture first",
        )
        for kind in ("i386", "x32")
    ],
    Scenario(
        number=55,
        play="locks",
        does="a covert channel by locks on a file shown to two jobs",
        refuses=1,
        by="**not prevented**: locks, like the page cache, are shared with whoever is shown the same file",
    ),
    Scenario(
        number=56,
        play="secrets",
        does="looks for the supervisor's secrets in environments and command lines",
        proof=nothing_was_found,
        by="clean environment, a /proc of its own",
    ),
    Scenario(number=57, program="core.py", does="dumps core", verdicts=("signaled",), proof=no_core, by="RLIMIT_CORE of 1 byte"),
    Scenario(
        number=57,
        play="core_handler",
        does="dumps core where the host has a handler for it",
        verdicts=("signaled",),
        requires=("vm", "root"),
        alone=True,
        proof=no_core,
        by="RLIMIT_CORE of 1 byte: the kernel starts no handler",
    ),
    Scenario(
        number=58,
        program="raise_limits.py",
        does="raises its own limits",
        limits={"limit_nofile": 64, "limit_nproc": 4000, "limit_fsize": "1M", "limit_memlock": "64K"},
        refuses=10,
        by="hard limits, no CAP_SYS_RESOURCE",
    ),
    *[
        Scenario(
            number=59,
            play=play,
            does=does,
            verdicts=("start_failed",),
            levels=("strict", "none"),
            by="the failed step and its errno; never exit code 127",
        )
        for play, does in (
            ("too_many_words", "a command line of 4 MiB"),
            ("no_such_file", "a program that is not there"),
            ("no_permission", "a program that is not executable"),
            ("bad_interpreter", "a script whose interpreter is missing"),
            ("busy_text", "a program that is being written"),
        )
    ],
    *[
        Scenario(
            number=60,
            program="end.py",
            args=("exit", code),
            does=f"exits with {code} by itself",
            verdicts=("nonzero_exit",),
            proof=ended(code=int(code)),
            by="an exit code is no evidence",
        )
        for code in ("124", "125", "127", "137", "143")
    ],
    *[
        Scenario(
            number=60,
            program="end.py",
            args=("signal", number),
            does=f"ends itself by signal {number}",
            verdicts=("signaled",),
            proof=ended(signal=int(number)),
            by="a signal is no evidence of a limit",
            levels=("strict", "none"),
        )
        for number in ("9", "24", "25", "31")
    ],
    Scenario(
        number=61,
        program="devices.py",
        does="speaks to devices, the kernel's log, the entropy pool",
        refuses=16,
        by="five devices only, nodev; syslog denied",
    ),
    _calls(
        62,
        "sets clocks and names, restarts the machine",
        "system calls denied",
        "clock_settime:0:0",
        "settimeofday:0:0",
        "adjtimex:0",
        "clock_adjtime:0:0",
        "sethostname:0:0",
        "setdomainname:0:0",
        "reboot:-18751827:672274793:0:0",
        denied=("clock_settime", "settimeofday", "sethostname", "setdomainname", "reboot"),
    ),
)
