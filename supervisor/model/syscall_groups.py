# SPDX-License-Identifier: Apache-2.0
"""Named groups of system calls, and the presets made of them, each with its reason.

docs/reference/syscalls.md is generated from these tables. A call that only one machine has is simply
not there on the other. In ``syscalls_allow`` and ``syscalls_deny`` a group is written ``@name``.
"""

from __future__ import annotations

from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

EPERM: Final = 1
ENOSYS: Final = 38
EAFNOSUPPORT: Final = 97

#: What a rule does with a call: it happens; it fails and is named in the outcome; it fails as if the kernel did not know it.
ALLOW: Final = "allow"
DENY: Final = "deny"
ABSENT: Final = "absent"


@value
class Condition:
    """A claim about one argument: its bits under ``mask`` equal ``bits``, or with ``differs`` do not."""

    argument: int
    mask: int
    bits: int
    differs: bool = False


@value
class Rule:
    """What happens to these calls when every condition holds; ``error`` is the errno of a denied call."""

    calls: tuple[str, ...]
    action: str
    when: tuple[Condition, ...] = ()
    error: int = EPERM


@value
class Group:
    """Calls that belong together, and why somebody would allow or deny them as one."""

    reason: str
    calls: tuple[str, ...]


@value
class Preset:
    """A whole filter: rules in order, the first that fits decides, and ``otherwise`` for the rest of the known calls."""

    reason: str
    rules: tuple[Rule, ...]
    otherwise: str
    groups: tuple[str, ...]  # for readers: what the rules are made of


INT: Final = (1 << 32) - 1
#: clone(2)'s flags for new namespaces, linux/sched.h; the bit of the one for time belongs to the exit signal there.
CLONE_NEW: Final = 0x7E020000
CLONE_THREAD: Final = 0x00010000
TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS = 0x5412, 0x541C, 0x5423, 0x541D
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, NETLINK_ROUTE = 1, 2, 10, 16, 0
#: personality(2): Linux, and Linux without randomised addresses, each with or without UNAME26; the last one asks.
PERSONALITIES: Final = (0, 0x20000, 0x40000, 0x60000, INT)
PR_SET_MM: Final = 35
#: S_ISUID and S_ISGID of chmod(2); the flags of open(2) that make a file, without the directory bit of O_TMPFILE.
SET_ID: Final = 0o6000
MAKES_FILE: Final = (0o100, 0o20000000)
IPPROTO_TCP: Final = 6
#: TCP_MD5SIG, TCP_MD5SIG_EXT and TCP_AO_ADD_KEY, linux/tcp.h.
TCP_KEYS: Final = (14, 32, 38)
#: Bits of a size that are set from 1 KiB on.
KIBIBYTES: Final = (1 << 64) - 1024


def _is(argument: int, bits: int, mask: int = INT) -> Condition:
    return Condition(argument=argument, mask=mask, bits=bits)


def _is_not(argument: int, bits: int, mask: int = INT) -> Condition:
    return Condition(argument=argument, mask=mask, bits=bits, differs=True)


def _group(reason: str, calls: str) -> Group:
    return Group(reason=reason, calls=tuple(calls.split()))


# ---- what the deny list takes away ----

DENIED: Final = {
    "keyring": _group(
        "keys belong to the user, not to a namespace: they outlive the job and the next one reads them",
        "add_key keyctl request_key",
    ),
    "io-uring": _group(
        "its operations pass no filter, and it was the way into many kernels; answered as if the kernel lacked it",
        "io_uring_enter io_uring_register io_uring_setup",
    ),
    "aio": _group(
        "the kernel has one count of its contexts for the whole machine (fs.aio-max-nr), which one job could use up; answered as if the "
        "kernel lacked it, so that programs do without",
        "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit",
    ),
    "bpf": _group("programs inside the kernel", "bpf"),
    "perf": _group("reads what other processes do through the processor's counters", "perf_event_open lookup_dcookie"),
    "userfaultfd": _group("stops the kernel in the middle of a copy, which is how races in it are won", "userfaultfd"),
    "debug": _group(
        "reads and changes other processes, and takes their descriptors",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    "mount": _group(
        "changes what paths mean, by the old interface and the new",
        "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root umount2",
    ),
    "namespaces": _group(
        "a new user namespace brings capabilities, and with them most of the kernel's attack surface", "listns setns unshare"
    ),
    "kexec": _group("starts another kernel", "kexec_file_load kexec_load"),
    "modules": _group("loads code into the kernel", "create_module delete_module finit_module get_kernel_syms init_module query_module"),
    "host": _group(
        "acts on the whole machine: restarts it, names it, counts its users, reads its log",
        "acct nfsservctl quotactl quotactl_fd reboot setdomainname sethostname swapoff swapon syslog vhangup",
    ),
    "clock": _group("sets the machine's time", "adjtimex clock_adjtime clock_settime settimeofday"),
    "raw-io": _group("speaks to hardware, or installs segments that only the kernel should", "ioperm iopl modify_ldt"),
    "file-handles": _group("opens files by number, past every directory's permissions and every mount", "open_by_handle_at"),
    "fanotify": _group("watches, and holds up, what others do with files", "fanotify_init fanotify_mark"),
    "obsolete": _group(
        "nobody calls them, so nobody looks at their code",
        "_sysctl afs_syscall epoll_ctl_old epoll_wait_old getpmsg putpmsg security sysfs tuxcall uselib ustat vserver",
    ),
}
#: Calls that are denied for some of their arguments, with the reason of each rule.
CHECKED: Final = (
    (
        "clone for new namespaces is denied; without them it makes threads and processes",
        (Rule(calls=("clone",), action=DENY, when=(_is_not(0, 0, CLONE_NEW),)),),
    ),
    (
        "clone3 hides its flags in memory, where no filter can look: answered as if the kernel lacked it, so that the C library uses clone",
        (Rule(calls=("clone3",), action=ABSENT),),
    ),
    (
        "TIOCSTI and TIOCLINUX type into the starter's terminal; TIOCSETD loads line disciplines, TIOCCONS takes the console",
        tuple(Rule(calls=("ioctl",), action=DENY, when=(_is(1, request),)) for request in (TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS)),
    ),
    (
        "sockets only of the families unix, IPv4, IPv6 and route netlink: vsock is in no namespace, the others are rarely used code",
        (
            Rule(
                calls=("socket",),
                action=DENY,
                when=tuple(_is_not(0, family) for family in (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)),
                error=EAFNOSUPPORT,
            ),
            Rule(calls=("socket",), action=DENY, when=(_is(0, AF_NETLINK), _is_not(2, NETLINK_ROUTE)), error=EAFNOSUPPORT),
        ),
    ),
    (
        "personality keeps to Linux with or without randomised addresses: others make all memory executable",
        (Rule(calls=("personality",), action=DENY, when=tuple(_is_not(0, persona) for persona in PERSONALITIES)),),
    ),
    (
        "set-user-ID and set-group-ID bits would make a file in a writable bind a way to its owner's rights outside, which may be root's; "
        "openat2 hides its mode in memory, so it is answered as if the kernel lacked it",
        (
            *[
                Rule(calls=tuple(calls.split()), action=DENY, when=(_is_not(argument, 0, SET_ID),))
                for argument, calls in ((1, "chmod fchmod creat mkdir mknod"), (2, "fchmodat fchmodat2 mkdirat mknodat"))
            ],
            *[
                Rule(calls=(call,), action=DENY, when=(_is_not(flags, 0, maker), _is_not(flags + 1, 0, SET_ID)))
                for call, flags in (("open", 1), ("openat", 2))
                for maker in MAKES_FILE
            ],
            Rule(calls=("openat2",), action=ABSENT),
        ),
    ),
    (
        "prlimit64 of process 1, which is the init helper: with the job's own ids a job could take its descriptors and its processor time",
        (Rule(calls=("prlimit64",), action=DENY, when=(_is(0, 1),)),),
    ),
    (
        "extended attributes of 1 KiB and more: an access control list of 64 KiB on each file of a /tmp is gigabytes of kernel memory that "
        "no limit counts; setxattrat hides the size in memory, so it is answered as if the kernel lacked it",
        (
            Rule(calls=("setxattr", "lsetxattr", "fsetxattr"), action=DENY, when=(_is_not(3, 0, KIBIBYTES),)),
            Rule(calls=("setxattrat",), action=ABSENT),
        ),
    ),
    (
        "keys of TCP connections, which routers use: each socket may have 128 KiB of them in kernel memory that no limit counts",
        tuple(Rule(calls=("setsockopt",), action=DENY, when=(_is(1, IPPROTO_TCP), _is(2, option))) for option in TCP_KEYS),
    ),
    ("prctl PR_SET_MM lets a process pass for another program", (Rule(calls=("prctl",), action=DENY, when=(_is(0, PR_SET_MM),)),)),
)
CHECKS: Final = tuple([rule for _, rules in CHECKED for rule in rules])
NO_ASYNCHRONOUS_IO: Final = Rule(calls=(*DENIED["io-uring"].calls, *DENIED["aio"].calls), action=DENY, error=ENOSYS)

# ---- what the allow lists are made of ----

ALLOWED: Final = {
    "start": _group(
        "what every program's loader and C library do, and what ending takes",
        "access arch_prctl brk clock_getres clock_gettime close execve execveat exit exit_group faccessat faccessat2 futex futex_waitv "
        "get_robust_list getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getrandom getresgid getresuid getrlimit "
        "getrusage getsid gettid gettimeofday getuid madvise membarrier mmap mprotect mremap mseal munmap prctl prlimit64 pread64 read "
        "readv restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity "
        "sched_yield set_robust_list set_tid_address sigaltstack sysinfo time times uname write writev",
    ),
    "memory": _group(
        "large and shared memory of one's own",
        "get_mempolicy map_shadow_stack mbind memfd_create mincore mlock mlock2 mlockall msync munlock munlockall pkey_alloc pkey_free "
        "pkey_mprotect remap_file_pages set_mempolicy set_mempolicy_home_node",
    ),
    "time": _group(
        "sleeping and being woken",
        "alarm clock_nanosleep getitimer nanosleep pause setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_settime",
    ),
    "threads": _group(
        "threads and their scheduling; tasks_max counts them",
        "clone futex_requeue futex_wait futex_wake get_thread_area getpriority ioprio_get sched_get_priority_max sched_get_priority_min "
        "sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity set_thread_area tgkill tkill",
    ),
    "read-files": _group(
        "opening and reading files; what there is to read is the sandbox's part",
        "cachestat chdir close_range dup dup2 dup3 fadvise64 fchdir fcntl fstat fstatfs getcwd getdents getdents64 ioctl lseek lstat "
        "newfstatat open openat openat2 preadv preadv2 readahead readlink readlinkat stat statfs statx umask",
    ),
    "write-files": _group(
        "writing files and directories; where is the sandbox's part",
        "chmod copy_file_range creat fallocate fchmod fchmodat fchmodat2 fdatasync flock fsync ftruncate link linkat mkdir mkdirat "
        "pwrite64 pwritev pwritev2 rename renameat renameat2 rmdir sendfile splice symlink symlinkat sync_file_range tee truncate "
        "unlink unlinkat utime utimensat utimes futimesat vmsplice",
    ),
    "processes": _group(
        "children, pipes to them and signals",
        "fork kill pidfd_open pidfd_send_signal pipe pipe2 rt_sigqueueinfo rt_tgsigqueueinfo setpgid setpriority setrlimit setsid "
        "vfork wait4 waitid",
    ),
    "events": _group(
        "waiting for many descriptors at once",
        "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 inotify_add_watch inotify_init "
        "inotify_init1 inotify_rm_watch poll ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime",
    ),
    "shared": _group(
        "System V and POSIX shared memory, semaphores and queues: namespaced under strict",
        "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop "
        "shmat shmctl shmdt shmget",
    ),
    "pairs": _group(
        "sockets between processes of the job, made in pairs",
        "getsockname getsockopt recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair getpeername",
    ),
    "sockets": _group("connections, of the families the deny list leaves", "accept accept4 bind connect listen socket"),
    "owners": _group(
        "owners and extended attributes, which archives and package managers carry along",
        "capget chown fchown fchownat fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr getxattr getxattrat lchown "
        "lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr mknod mknodat name_to_handle_at removexattr removexattrat "
        "setxattr setxattrat sync syncfs",
    ),
}
#: For ``syscalls_deny`` only.
OPTIONAL: Final = {
    "locks": _group("file locks on files that jobs share say one bit to the other job", "flock"),
}
GROUPS: Final = {**DENIED, **ALLOWED, **OPTIONAL}


def _allow_list(reason: str, *groups: str, more: tuple[Rule, ...] = ()) -> Preset:
    rules = tuple([Rule(calls=ALLOWED[name].calls, action=ALLOW) for name in groups])
    return Preset(reason=reason, rules=(*CHECKS, NO_ASYNCHRONOUS_IO, *more, *rules), otherwise=DENY, groups=groups)


#: fork(3) is a clone(2) too.
ONLY_THREADS: Final = Rule(calls=("clone",), action=DENY, when=(_is(0, 0, CLONE_THREAD),))
_COMPUTE: Final = ("start", "memory", "time", "threads", "events", "read-files", "write-files")
_PYTHON: Final = (*_COMPUTE, "processes", "shared", "pairs", "owners")

PRESETS: Final = {
    "default": Preset(
        reason="everything but what reaches past the sandbox: programs notice nothing unless they need it",
        rules=(*CHECKS, NO_ASYNCHRONOUS_IO, *[Rule(calls=group.calls, action=DENY) for group in DENIED.values()]),
        otherwise=ALLOW,
        groups=tuple(DENIED),
    ),
    "compute": _allow_list(
        "one program that reads, computes and writes, with as many threads as it likes: contest solutions; no other process, no socket",
        *_COMPUTE,
        more=(ONLY_THREADS,),
    ),
    "python": _allow_list(
        "interpreters and build tools: processes, event loops, shared memory and socket pairs, but no connection", *_PYTHON
    ),
    "network": _allow_list("the same with sockets, for programs that call services", *_PYTHON, "sockets"),
}
NO_FILTER: Final = "none"
